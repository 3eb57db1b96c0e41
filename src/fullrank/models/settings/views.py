"""How positives are made."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from fullrank.models.settings.part import Part, require


@dataclass(frozen=True)
class Crops(Part):
    """Random augmented crops of one image, all of one size.

    Args:
        count: views an image.
        augment: name of the augmentation preset; ``auto`` is the data set's own. The papers'
            ImageNet ones are ``mocov2``, ``simclr`` and ``byol``.
        size: side of a view in pixels; None is the preset's.
        min_scale: smallest share of the image's area that a crop covers; None is the preset's.
        flip: probability of a horizontal flip; None is the preset's.
        strength: factor on the colour jitter; None is the preset's.
        grey: probability of a grey view; None is the preset's.
        blur: probability of a blurred view; None is the preset's.
        solarise: probability of a solarised view; None is the preset's.
        noise: standard deviation of pixel noise, pixels in [0, 1]; None is the preset's.
    """

    kind: ClassVar[str] = "crops"

    count: int = 2
    augment: str = "auto"
    size: int | None = None
    min_scale: float | None = None
    flip: float | None = None
    strength: float | None = None
    grey: float | None = None
    blur: float | None = None
    solarise: float | None = None
    noise: float | None = None

    def __post_init__(self) -> None:
        require(
            self.count >= 2, "recipe.views.count", self.count, "2 or more (a positive is a pair)"
        )

    def describe(self) -> str:
        return "two crops" if self.count == 2 else f"{self.count} crops"


VIEWS: Mapping[str, type[Crops]] = {part.kind: part for part in (Crops,)}
