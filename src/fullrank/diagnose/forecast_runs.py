"""From a run folder to its row of the forecaster's table."""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fullrank.audit.measured import Layer, measure_subject
from fullrank.audit.open import open_subject
from fullrank.audit.subject import Options
from fullrank.data.stream_settings import IID
from fullrank.diagnose.forecast_table import RunRow, rounded
from fullrank.errors import UserError
from fullrank.measure.clid import dimension_share
from fullrank.measure.forecast import data_key
from fullrank.measure.forecast_features import forecast_features
from fullrank.measure.pair_table import pair_table
from fullrank.measure.shards import Shards
from fullrank.measure.table import read_values
from fullrank.recipes.registry import recipe as find_recipe
from fullrank.recipes.user_file import is_user_file
from fullrank.train.config import NOT_IDENTITY
from fullrank.train.folder import CONFIG
from fullrank.train.record import Record
from fullrank.train.resolve import read_yaml
from fullrank.train.storage import write_whole

MEASURED = "measured.json"
# Counts up when what is measured, or how, changes: older files are measured again.
VERSION = 1
# Rows drawn for what needs pairs.
SAMPLE = 1024
PROBES = ("knn", "linear")
# Metrics that are told of the embedding, too: as published, or where the method acts.
OF_EMBEDDING = ("rankme", "lidar", "cev_auc", "alignment", "uniformity")


def run_folders(store: Path) -> list[Path]:
    """Return what looks like a run in a store: folders with a configuration, in order of name.

    Raises:
        UserError: the store does not exist, or holds none.
    """
    if not store.is_dir():
        raise UserError(f"runs: {store} is not a folder.")
    found = sorted(folder for folder in store.iterdir() if (folder / CONFIG).is_file())
    if not found:
        raise UserError(f"runs: {store} holds no run folders.")
    return found


def measure_run(folder: str | Path) -> dict[str, Any]:
    """Measure the label-free metrics of a finished run that its record does not hold.

    The run's last weights are shown the images and views of its check-ups. The result is kept in
    the run folder as ``measured.json``, where it can be written, and found there the next time; a
    file that is damaged, or of another version or configuration, is replaced.

    Returns:
        ``metrics`` by name, those of the embedding with ``embedding_`` before it, and ``classes``,
        the number of them in the data (0 without labels).

    Raises:
        UserError: the run cannot be read or measured; says why.
    """
    folder = Path(folder)
    about = _started(folder)
    found = _kept(folder / MEASURED, str(about["hash"]))
    if found is not None:
        return found
    config = read_yaml(folder / CONFIG)
    options = Options(
        limit=int(about["n_held_out"]), seed=int(config["seed"]), device="cpu", batch=256
    )
    subject = open_subject(str(folder), options)
    layers = measure_subject(subject, SAMPLE)
    metrics = _metrics(layers["backbone"])
    if "embedding" in layers:
        of_embedding = _metrics(layers["embedding"])
        metrics |= {f"embedding_{k}": v for k, v in of_embedding.items() if k in OF_EMBEDDING}
    labels = subject.labels
    classes = 0 if labels is None else len(labels[labels >= 0].unique())
    found = {
        "version": VERSION,
        "hash": about["hash"],
        "metrics": rounded(metrics),
        "classes": classes,
    }
    with contextlib.suppress(OSError, UserError):  # a store that is only read is measured again
        write_whole(folder / MEASURED, json.dumps(found).encode())
    return found


def _kept(path: Path, identity: str) -> dict[str, Any] | None:
    """Return what was measured of this configuration before; None if it must be measured again."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):  # none there, or neither UTF-8 nor JSON
        return None
    if not isinstance(found, dict) or not {"metrics", "classes"} <= found.keys():
        return None
    of_this = found.get("version") == VERSION and found.get("hash") == identity
    return found if of_this else None


def _metrics(layer: Layer) -> dict[str, float]:
    """Return every metric of a layer, without error bars."""
    if not isinstance(layer.moments, Shards) or layer.rows is None:
        raise UserError("what: its features are too wide to be measured exactly.")
    total = layer.moments.total
    pairs = {k: j.value for k, j in pair_table(layer.rows, groups=1).items()}
    pairs["clid_learnability"] = pairs["clid"] - dimension_share(pairs["twonn"], total.dim)
    return read_values(total) | pairs


def read_run(folder: Path) -> RunRow:
    """Read the row of a finished run; it must have been measured, or is measured now.

    Raises:
        UserError: the run is not finished, has no probes, or cannot be read; says why.
    """
    start = _started(folder)
    config = read_yaml(folder / CONFIG)
    events = Record(folder).current()
    probes = {e["network"]: e for e in events if e.get("event") == "probe"}
    if "run" not in probes:
        raise UserError(f"{folder.name}: it was not probed, for want of labels.")
    last = [e for e in events if e.get("event") == "checkup"][-1]
    signs = last["layers"]["backbone"]
    features = forecast_features(signs)
    if not features:
        raise UserError(f"{folder.name}: nothing varies in its backbone.")
    measured = measure_run(folder)
    data, backbone = config["data"], config["backbone"]
    losses = [e["loss"] for e in events if e.get("event") == "step" and e["loss"] is not None]
    name, _, variants = str(start["recipe"]).partition("/")
    return RunRow(
        run=folder.name,
        hash=str(start["hash"]),
        kind=_kind(config),
        recipe=name,
        form=", ".join([*variants.split("/"), *_changed(config["recipe"])]).strip(", "),
        backbone=str(backbone["name"]),
        width=int(backbone.get("width") or 0),
        data=data_key(str(data["name"]), data.get("label"), data.get("size")),
        train_images=int(start["n_train"]),
        stream=_stream(data.get("stream")),
        seed=int(config["seed"]),
        steps=int(start["steps"]),
        d=int(signs["d"]),
        n=int(signs["n"]),
        labelled=int(probes["run"]["n_train"]),
        tested=int(probes["run"]["n_test"]),
        classes=int(measured["classes"]),
        features=rounded(features),
        metrics={**measured["metrics"], **({"final_loss": losses[-1]} if losses else {})},
        accuracy={name: probes["run"][name] for name in PROBES if name in probes["run"]},
        random={
            name: probes["random-init"][name]
            for name in PROBES
            if name in probes.get("random-init", {})
        },
    )


def _started(folder: Path) -> Mapping[str, Any]:
    """Return the start of a finished run that can be read without running code.

    Raises:
        UserError: it is not finished, its recipe is a user's file, or its record is damaged.
    """
    events = Record(folder).current()
    found = {str(event.get("event")): event for event in events}
    if "end" not in found:
        raise UserError(f"{folder.name}: it is not finished.")
    start = next((e for e in events if e.get("event") == "start"), None)
    if start is None or "checkup" not in found or "hash" not in start:
        raise UserError(f"{folder.name}: its record is damaged.")
    if is_user_file(str(start.get("recipe"))):
        raise UserError(f"{folder.name}: its recipe is a Python file, which is not run here.")
    return start


def _kind(config: Mapping[str, Any]) -> str:
    """Return the hash of a configuration without seed and machine."""
    plain = {k: v for k, v in config.items() if k not in (*NOT_IDENTITY["run"], "seed", "checkup")}
    own = {k: v for k, v in plain["data"].items() if k not in NOT_IDENTITY["data"]}
    if _stream(own.get("stream")) == IID.kind:  # runs of before there were others do not name it
        own.pop("stream", None)
    text = json.dumps(plain | {"data": own}, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def _changed(recipe: Mapping[str, Any]) -> list[str]:
    """Name what differs from the recipe of that name, under the preset that is nearer."""
    entry = find_recipe(str(recipe["name"]))
    found = []
    for preset in ("small", "paper"):
        own = entry.preset(preset).to_dict()
        found.append(
            [
                f"{part} {key} {value}" if key != "kind" else f"{part} {value}"
                for part, settings in recipe.items()
                if isinstance(settings, Mapping)
                for key, value in settings.items()
                if (own.get(part) or {}).get(key) != value
            ]
        )
    return min(found, key=len)


def _stream(stream: Any) -> str:
    """Say in a few words in which order the data came; runs of before it could be chosen: iid."""
    if not isinstance(stream, Mapping):
        return str(stream or IID.kind)
    own = [f"{k} {v}" for k, v in stream.items() if k != "kind" and v is not None]
    return " ".join([str(stream.get("kind", IID.kind)), *own])
