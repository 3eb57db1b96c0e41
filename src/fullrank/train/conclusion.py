"""The end of a run: its encoder, its probes and its verdict."""

from __future__ import annotations

from typing import Any

from fullrank.measure.forecast import data_key, forecast
from fullrank.measure.verdict import judge, judge_loss
from fullrank.monitor.checkup import calibrated
from fullrank.train.encoder import save_encoder
from fullrank.train.record import now
from fullrank.train.session import Fitted, Session


def conclude(session: Session, fitted: Fitted) -> dict[str, Any]:
    """Save the encoder, probe, judge, and write the run's last events.

    Returns:
        The verdict on backbone, embedding and loss.
    """
    network = session.network.to(session.device)
    config, view = session.config, session.views[0]
    save_encoder(session.folder, network, config, view, session.source.channels, fitted.step)
    _probe(session, fitted.step)
    verdict = _judge(session)
    session.record.write("verdict", **verdict)
    session.record.write("forecast", **_forecast(session))
    session.record.write(
        "end",
        step=fitted.step,
        time=now(),
        seconds=fitted.seconds,
        images_per_second=fitted.step * config.run.batch_size / fitted.seconds,
    )
    return verdict


def _probe(session: Session, step: int) -> None:
    """Probe the trained and the random-init network, if there are labels."""
    if session.prober is None:
        return
    # The network of step 0 again: its weights depend on the seed alone.
    untrained = calibrated(session.fresh_network().to(session.device), session.held_out)
    for name, at, network in (("random-init", 0, untrained), ("run", step, session.network)):
        session.record.write("probe", network=name, step=at, **session.prober(network))


def _judge(session: Session) -> dict[str, Any]:
    events = session.record.current()
    checkups = [e for e in events if e["event"] == "checkup"]
    verdict: dict[str, Any] = {}
    for layer in ("backbone", "embedding"):
        *before, last = (checkup["layers"][layer] for checkup in checkups)
        verdict[layer] = judge(last, before).to_dict()
    losses = [e["loss"] for e in events if e["event"] == "step"]
    verdict["loss"] = judge_loss(losses, session.collapsed_loss())
    return verdict


def _forecast(session: Session) -> dict[str, Any]:
    """Forecast the backbone's probe accuracy from the last check-up, which saw no label."""
    last, data = session.record.last("checkup"), session.config.data
    assert last is not None
    labelled = None if session.prober is None else len(session.prober.train)
    found = forecast(
        last["layers"]["backbone"], data_key(data.name, data.label, data.size), labelled
    )
    return {"step": last["step"], "layer": "backbone", **found.to_dict()}
