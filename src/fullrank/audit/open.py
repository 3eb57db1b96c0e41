"""From what a user names to what can be audited."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from fullrank.audit.subject import Options, Subject
from fullrank.errors import UserError, nearest

if TYPE_CHECKING:  # a file of embeddings needs no network
    from fullrank.audit.models import Architecture, Model
    from fullrank.audit.pictures import Pictures


def open_subject(what: str, options: Options | None = None) -> Subject:
    """Find out what ``what`` is and open it.

    In this order: ``timm/NAME``, ``torchvision/NAME``, ``hf:REPO``; ``module:factory`` or
    ``path/to/file.py:factory``; a run folder; a checkpoint (``.ckpt``, a run's encoder, or any
    file for which ``backbone`` is given); a file of embeddings or a folder of shards.

    Args:
        what: name or path.
        options: what it is to be measured on and how.

    Raises:
        UserError: nothing of that name is there (near matches are given), it is damaged or not
            trusted, or it needs a choice that ``options`` does not make.
    """
    options = options or Options()
    path = Path(what).expanduser()
    if not path.exists():
        return _named(what, options)
    if path.is_dir() and ((path / "config.yaml").exists() or (path / "encoder.json").exists()):
        from fullrank.audit.runs import run_model

        return _of_run(what, "run", run_model(path, options), options)
    encoder = path.name == "encoder.safetensors" and path.with_name("config.yaml").exists()
    if path.is_file() and (path.suffix == ".ckpt" or encoder or options.backbone is not None):
        return _checkpoint(what, path, options)
    from fullrank.audit.embeddings import Embeddings

    return Embeddings(what, options)


def _of_run(what: str, kind: str, found: tuple[Model, Pictures], options: Options) -> Subject:
    from fullrank.audit.features import Features

    model, pictures = found
    subject = Features(what, kind, model, options, pictures)
    return subject if model.settled else subject.calibrated()


def _named(what: str, options: Options) -> Subject:
    """Open a model by its name."""
    path = Path(what)
    if not what.startswith(("timm/", "torchvision/")) and ":" not in what:
        beside = [] if not path.parent.is_dir() else [one.name for one in path.parent.iterdir()]
        close = [str(path.with_name(name)) for name in nearest(path.name, beside)]
        hint = f" Did you mean {' or '.join(close)}?" if close else ""
        raise UserError(
            f"what: {what} does not exist.{hint} Allowed: a file or folder of embeddings, a run "
            "folder, a checkpoint, timm/NAME, torchvision/NAME, hf:REPO, or module:factory."
        )
    from fullrank.audit.features import Features
    from fullrank.audit.models import architecture, hugging_face
    from fullrank.audit.pictures import Pictures

    if what.startswith("hf:"):
        pictures = Pictures.named(options)
        model = hugging_face(what.removeprefix("hf:"), _weights(options), options.seed)
        model.size = options.size or model.size
        return _settled(Features(what, "model", model, options, pictures))
    if ":" in what:
        from fullrank.audit.factories import factory_model

        model = factory_model(what, options.seed)
        if model.batches is not None and options.data is None:
            return Features(what, "model", model, options, None)
        pictures = Pictures.named(options)
        model.channels = model.channels or pictures.source.channels
        model.size = options.size or pictures.source.size
        return Features(what, "model", model, options, pictures)
    found = architecture(what)
    pictures = Pictures.named(options)
    if _weights(options) not in ("random", "pretrained"):
        return _loaded(what, "model", found, Path(options.weights).expanduser(), options, pictures)
    model = _built(found, options, pictures, pretrained=options.weights == "pretrained")
    return _settled(Features(str(path), "model", model, options, pictures))


def _weights(options: Options) -> str:
    if options.weights not in ("random", "pretrained") and not Path(options.weights).exists():
        raise UserError(
            f"weights: {options.weights!r} given. Allowed: random, pretrained, or the path of a "
            "checkpoint."
        )
    return options.weights


def _settled(subject: Subject) -> Subject:
    """Calibrate the batch norm of random weights, which has seen no data."""
    from fullrank.audit.features import Features

    assert isinstance(subject, Features)
    return subject.calibrated() if subject.options.weights == "random" else subject


def _built(
    found: Architecture,
    options: Options,
    pictures: Pictures,
    pretrained: bool = False,
    channels: int | None = None,
) -> Model:
    """Build a named architecture for the pictures."""
    from fullrank.audit.models import Model, seeded

    channels = channels or found.channels or pictures.source.channels
    size = found.side(options.size, pictures.source.size, pretrained)

    def fresh() -> object:
        return found.build(channels, size, False)

    network = seeded(lambda: found.build(channels, size, pretrained), options.seed)
    mean, std = (found.mean, found.std) if pretrained else (None, None)
    said = {"weights": "pretrained" if pretrained else "random", "architecture": found.name}
    return Model(network, fresh, channels, size, mean, std, said=said)  # type: ignore[arg-type]


def _checkpoint(what: str, path: Path, options: Options) -> Subject:
    from fullrank.audit.models import architecture
    from fullrank.audit.pictures import Pictures
    from fullrank.audit.runs import run_model, run_of_checkpoint

    if options.backbone is not None:
        found = architecture(options.backbone)
        pictures = Pictures.named(options)
        return _loaded(what, "checkpoint", found, path, options, pictures)
    folder = run_of_checkpoint(path)
    if folder is None:
        raise UserError(
            f"backbone: none given, and {what} lies in no run folder that says it. Allowed: "
            "timm/NAME, torchvision/NAME, or a backbone of fullrank train."
        )
    return _of_run(what, "checkpoint", run_model(folder, options, path), options)


def _loaded(
    what: str, kind: str, found: Architecture, path: Path, options: Options, pictures: Pictures
) -> Subject:
    """Load a checkpoint's weights into a named architecture."""
    from fullrank.audit.checkpoints import channels_of, load_matching, read_weights
    from fullrank.audit.features import Features

    key = options.key[0] if options.key else None
    weights, where = read_weights(path, options.trust, key)
    channels = channels_of(weights, found.channels or pictures.source.channels)
    model = _built(found, options, pictures, channels=channels)
    prefix = key if key is not None and key != where else None
    match = load_matching(model.network.backbone, weights, str(path), prefix)
    model.said |= {
        "weights": str(path),
        "prefix": f"{where}: {match.prefix}" if where else match.prefix,
        "other_prefixes": list(match.others),
        "unused": len(match.unused),
    }
    return Features(what, kind, model, options, pictures)
