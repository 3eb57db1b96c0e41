"""From the eigenmodes of a run at a check-up to the fate that the theory expects of them."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from fullrank.models.joint_embedding import JointEmbedding
from fullrank.models.targets import OnlineTarget
from fullrank.monitor.modes import Estimate, Pull, followed, matched, pull_of, share_kept
from fullrank.recipes.training import Optimizer
from fullrank.theory.fate import Drive, Foretold, foretell
from fullrank.train.rates import decay_at, rate_at, scaled_lr

# Modes that the record holds.
SHOWN = 32


class Foretelling:
    """Writes down what becomes of the modes of one run; remembers them until the next check-up.

    Args:
        settings: the optimiser.
        batch_size: images in the global batch.
        total: steps of the run.
        due: steps of the check-ups.
    """

    def __init__(self, settings: Optimizer, batch_size: int, total: int, due: list[int]) -> None:
        self.settings, self.total, self.due = settings, total, due
        self.peak = scaled_lr(settings, batch_size)
        self.before: tuple[int, Tensor] | None = None
        """The step of the last check-up, and the directions of its modes."""

    def state_dict(self) -> dict[str, Any]:
        """Return what a resumed run needs to follow the modes of before."""
        return {"before": self.before}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from :meth:`state_dict`."""
        self.before = state["before"]

    def event(self, network: JointEmbedding, estimate: Estimate, step: int) -> dict[str, Any]:
        """Return the fields of a ``modes`` line, and remember its modes.

        Args:
            network: in training, or a copy of it.
            estimate: its modes.
            step: how many steps were done.
        """
        pull = pull_of(network)
        assert pull is not None
        until = next((due for due in self.due if due > step), None)
        horizon, predictor_rate = self.times(step, until)
        drive = self.drive(network, estimate, pull, step, (until or step) - step)
        told: Foretold | None = None
        if self.settings.name == "sgd":
            told = foretell(estimate.modes, drive, horizon or 0.0)
        shown = slice(0, SHOWN)
        vectors = estimate.vectors[:, shown]
        fields: dict[str, Any] = {
            "step": step,
            "until": until,
            "horizon": horizon,
            "resolved": len(estimate.modes.variance),
            "below_zero": estimate.below_zero,
            "trace": float(estimate.second_moment.diagonal().sum()),
            "linear": estimate.linear,
            "symmetric": estimate.symmetric,
            "aligned": estimate.aligned,
            "weight_decay": drive.weight_decay,
            "predictor_decay": drive.predictor_decay,
            "predictor_rate": predictor_rate if drive.predictor_rate > 0 else 0.0,
            "variance": estimate.modes.variance[shown].tolist(),
            "noise": estimate.modes.noise[shown].tolist(),
            "p": estimate.modes.predictor[shown].tolist(),
            "tau": estimate.modes.target[shown].tolist(),
            "gain": estimate.modes.gain[shown].tolist(),
        }
        if told is not None:
            fields |= {
                "rate": told.rate[shown].tolist(),
                "margin": told.margin[shown].tolist(),
            }
        if told is not None and horizon is not None:
            fields |= {
                "expected": told.expected[shown].tolist(),
                "fate": told.fates()[shown],
            }
        if self.before is not None:
            since, earlier = self.before
            places, cosines = matched(estimate, earlier)
            fields |= {
                "since": since,
                "followed": followed(estimate, earlier).tolist(),
                "matched": places[shown],
                "overlap": cosines[shown],
            }
        self.before = (step, vectors.clone())
        return fields

    def times(self, step: int, until: int | None) -> tuple[float | None, float]:
        """Return the time to step ``until``, in learning rate, and the predictor's over it.

        Under a steady gradient SGD's momentum makes step k, from 1, ``(1 - momentum^k) /
        (1 - momentum)`` times as long. With optimisers that adapt their rates there is no such
        clock: None. Nor is there after the last step.
        """
        settings = self.settings
        ratio = settings.predictor_lr
        if settings.name != "sgd" or until is None:
            return None, ratio
        lengths = [1 - settings.momentum ** (k + 1) for k in range(step, until)]
        shares = [rate_at(settings, k, self.total) for k in range(step, until)]
        whole = sum(length * share for length, share in zip(lengths, shares, strict=True))
        if settings.predictor_schedule == "constant" and whole > 0:
            ratio *= sum(lengths) / whole
        return self.peak * whole / (1 - settings.momentum), ratio

    def drive(
        self, network: JointEmbedding, estimate: Estimate, pull: Pull, step: int, steps: int
    ) -> Drive:
        """Return what moves the modes over the next ``steps`` steps."""
        settings, predictor = self.settings, network.predictor
        horizon, ratio = self.times(step, step + steps if steps else None)
        decay = decay_at(settings, step, self.total)
        own = settings.predictor_weight_decay
        trained = any(p.requires_grad for p in predictor.parameters())
        exponent = getattr(getattr(predictor, "settings", None), "exponent", 0.0)
        kept = share_kept(network, step, self.total)
        return Drive(
            strength=pull.strength,
            cosine=pull.cosine,
            leading=pull.leading,
            two_sided=isinstance(network.target, OnlineTarget),
            # A batch norm behind the last layer undoes what decay does to it.
            weight_decay=0.0 if estimate.normalised else decay,
            predictor_decay=ratio * (decay if own is None else own),
            predictor_rate=ratio if trained else 0.0,
            exponent=0.0 if trained else float(exponent),
            target_rate=None if kept is None or not horizon else steps * (1 - kept) / horizon,
            misaligned=estimate.misaligned,
            normalised=estimate.normalised,
        )
