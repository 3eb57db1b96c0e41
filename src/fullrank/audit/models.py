"""Frozen networks by name: timm's, torchvision's, Hugging Face's, and our own backbones."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from fullrank.data.settings import Augmentation
from fullrank.errors import UserError, unknown_name
from fullrank.randomness import derive_seed

Batches = Iterable[Tensor | tuple[Tensor, ...] | list[Tensor]]


@dataclass
class Network:
    """A backbone, and the projector behind it where there is one.

    Attributes:
        backbone: image → representation; what ``taps`` name is in it.
        projector: representation → embedding.
        dense: image → features before the model's own pooling, where the model tells them apart.
        channels_last: whether features of rank 4 are ``(n, h, w, c)``.
    """

    backbone: nn.Module
    projector: nn.Module | None = None
    dense: Callable[[Tensor], Any] | None = None
    channels_last: bool = False

    def modules(self) -> list[nn.Module]:
        """Return backbone and, where there is one, projector."""
        return [m for m in (self.backbone, self.projector) if m is not None]


@dataclass
class Model:
    """A network with its weights, and what it has to be shown.

    Attributes:
        network: as it is measured.
        fresh: builds the same architecture with random weights.
        channels: of the images it takes.
        size: side of the images it takes in pixels.
        mean: of each channel, that it was trained with; None is the data's.
        std: of each channel.
        views: augmentation that it was trained with; None is the data's preset.
        batches: data of its own in place of images.
        settled: whether its batch norm has statistics of its own; a check-up of a run of few steps
            takes those of the data, and so does an audit.
        said: conventions to be reported.
    """

    network: Network
    fresh: Callable[[], Network]
    channels: int
    size: int
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None
    views: tuple[Augmentation, ...] | None = None
    batches: Callable[[], Batches] | None = None
    settled: bool = True
    said: dict[str, Any] = field(default_factory=dict)


def seeded(build: Callable[[], Any], seed: int) -> Any:
    """Return what ``build`` makes, with weights that depend on the seed alone."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derive_seed(seed, "initialisation"))
        return build()


@dataclass(frozen=True)
class Architecture:
    """A backbone that can be built, before it is known on which images.

    Attributes:
        name: in full.
        build: channels, side and whether pretrained → network.
        channels: that it takes; None takes any.
        size: that it insists on, or was trained with; None takes any.
        fixed: whether it insists.
        mean: that its pretrained weights were trained with.
        std: the same.
    """

    name: str
    build: Callable[[int, int, bool], Network]
    channels: int | None = None
    size: int | None = None
    fixed: bool = False
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None

    def side(self, asked: int | None, of_data: int, pretrained: bool) -> int:
        """Return the side of the images: as asked, or the model's own, or the data's."""
        if asked is not None:
            return asked
        own = self.size if self.fixed or pretrained else None
        return own or of_data


def architecture(given: str | Mapping[str, Any]) -> Architecture:
    """Find a backbone by name.

    Args:
        given: ``timm/NAME``, ``torchvision/NAME``, or a backbone of ``fullrank train``, for which
            a mapping ``{"name": ..., "width": ...}`` sets more.

    Raises:
        UserError: the name is not known (near matches are given), or a setting is not.
    """
    settings = {"name": given} if isinstance(given, str) else dict(given)
    name = str(settings.pop("name", ""))
    if name.startswith("torchvision/"):
        return _torchvision(name.removeprefix("torchvision/"))
    from fullrank.models.settings.backbone import backbone_type

    full, kind = backbone_type(name)
    if full.startswith("timm/"):
        return _timm(full.removeprefix("timm/"))
    try:
        chosen = kind(name=full, **settings)
    except TypeError as error:
        raise UserError(f"backbone: {full} does not take {settings} ({error}).") from None

    def build(channels: int, size: int, pretrained: bool) -> Network:
        if pretrained:
            raise UserError(f"weights: pretrained ones of {full} do not exist. Allowed: random.")
        return Network(chosen.build(channels, size)[0])

    return Architecture(full, build)


def _timm(name: str) -> Architecture:
    import timm

    config = timm.get_pretrained_cfg(name, allow_unregistered=True)
    size = config.input_size[-1] if config else None

    def build(channels: int, size: int, pretrained: bool) -> Network:
        from fullrank.models.backbones import timm_model

        with _downloading(f"timm/{name}"):
            model, _ = timm_model(name, channels, size, pretrained)
        last = getattr(model, "output_fmt", "NCHW") == "NHWC"
        return Network(model, dense=getattr(model, "forward_features", None), channels_last=last)

    return Architecture(
        f"timm/{name}",
        build,
        3,
        size,
        bool(config and config.fixed_input_size),
        tuple(config.mean) if config else None,
        tuple(config.std) if config else None,
    )


def _torchvision(name: str) -> Architecture:
    from torchvision import models

    known = models.list_models(module=models)
    if name not in known:
        raise unknown_name("torchvision", name, known)

    def build(channels: int, size: int, pretrained: bool) -> Network:
        if channels != 3:
            raise UserError(f"torchvision/{name}: takes 3 channels, and {channels} are given.")
        with _downloading(f"torchvision/{name}"):
            options = {"image_size": size} if name.startswith("vit_") else {}
            model = models.get_model(name, weights="DEFAULT" if pretrained else None, **options)
        remove_classifier(model)
        return Network(model)

    fixed = name.startswith(("vit_", "maxvit", "swin"))
    imagenet = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
    return Architecture(f"torchvision/{name}", build, 3, 224, fixed, *imagenet)


def remove_classifier(model: nn.Module) -> None:
    """Replace the last linear layer (or convolution) of the classifier by the identity, in place.

    What remains is what the classifier saw: its normalisation and hidden layers stay.
    """
    for name in ("fc", "classifier", "heads", "head"):
        part = getattr(model, name, None)
        if not isinstance(part, nn.Module):
            continue
        linear = [
            (path, m) for path, m in part.named_modules() if isinstance(m, nn.Linear | nn.Conv2d)
        ]
        if not linear:
            continue
        path = f"{name}.{linear[-1][0]}".rstrip(".")
        parent, _, child = path.rpartition(".")
        setattr(model.get_submodule(parent), child, nn.Identity())
        return


class _downloading:  # noqa: N801  (read as a phrase: with _downloading(...))
    """Turn a download that failed into a ``UserError``."""

    def __init__(self, what: str) -> None:
        self.what = what

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: type | None, error: BaseException | None, trace: Any) -> None:
        import urllib.error

        if isinstance(error, UserError) or not isinstance(error, Exception):
            return
        module = type(error).__module__
        network = isinstance(error, OSError | urllib.error.URLError)
        if network or module.startswith(("huggingface_hub", "requests", "httpx", "urllib3")):
            lines = str(error).splitlines() or [type(error).__name__]
            raise UserError(
                f"weights: those of {self.what} could not be fetched ({lines[0][:200]}). Allowed: "
                "random, the path of a checkpoint, or a machine with a connection."
            ) from None


def hugging_face(repo: str, weights: str, seed: int) -> Model:
    """Load a model of the Hugging Face hub, or of a folder in its format, by ``AutoModel``.

    Args:
        repo: ``owner/name`` or a path.
        weights: ``pretrained`` or ``random`` (of the same configuration).
        seed: of random weights.

    Raises:
        UserError: transformers is missing, or the model cannot be fetched or is none for images.
    """
    try:
        from transformers import AutoConfig, AutoModel
    except ImportError:
        raise UserError(
            f"hf:{repo}: needs transformers: pip install 'fullrank[transformers]'."
        ) from None
    with _downloading(f"hf:{repo}"):
        try:
            config = AutoConfig.from_pretrained(repo)
            kind = AutoModel._model_mapping[type(config)]
        except (ValueError, KeyError) as error:
            raise UserError(f"hf:{repo}: no model that AutoModel knows ({error}).") from None

    def fresh() -> Network:
        return _hugging_face_network(AutoModel.from_config(config))

    if getattr(kind, "main_input_name", "") != "pixel_values":
        raise UserError(
            f"hf:{repo}: takes {getattr(kind, 'main_input_name', 'other things')}, no images. "
            "Allowed: a model of images, or module:factory that returns a model and its batches."
        )
    if weights == "random":
        network = seeded(fresh, seed)
    else:
        with _downloading(f"hf:{repo}"):
            # Only safetensors, or a pickle of nothing but tensors, is loaded by transformers.
            network = _hugging_face_network(AutoModel.from_pretrained(repo))
    size = getattr(config, "image_size", None) or 224
    side = int(size[0] if isinstance(size, list | tuple) else size)
    mean, std = _statistics(repo) if weights == "pretrained" else (None, None)
    said = {"weights": weights, "architecture": f"hf:{repo}"}
    return Model(
        network, fresh, int(getattr(config, "num_channels", 3)), side, mean, std, said=said
    )


def _hugging_face_network(model: nn.Module) -> Network:
    def dense(images: Tensor) -> Tensor:
        return model(images).last_hidden_state

    return Network(model, dense=dense)


def _statistics(repo: str) -> tuple[tuple[float, ...] | None, tuple[float, ...] | None]:
    """Return the mean and std of a model's image processor, if it has one."""
    from transformers import AutoImageProcessor

    try:
        processor = AutoImageProcessor.from_pretrained(repo)
    except (OSError, ValueError, ImportError):
        return None, None
    mean, std = getattr(processor, "image_mean", None), getattr(processor, "image_std", None)
    return (tuple(mean), tuple(std)) if mean and std else (None, None)
