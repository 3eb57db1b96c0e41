"""How positives are made."""

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

    @property
    def targets(self) -> int:
        """How many views, the first ones, are targets, too."""
        return self.count

    def describe(self) -> str:
        return "two crops" if self.count == 2 else f"{self.count} crops"


@dataclass(frozen=True)
class MultiCrop(Crops):
    """Large crops and small ones; only the large ones are targets (Caron et al. 2020, sec. 3.3).

    The settings of :class:`Crops` are those of the large ones, and of the small ones but for size
    and area.

    Args:
        local_count: small views an image.
        local_size: side of a small view in pixels; None is 96/224 of a large one's.
        local_min_scale: smallest share of the image's area that a small crop covers.
        local_max_scale: largest share.
    """

    kind: ClassVar[str] = "multi-crop"

    local_count: int = 6
    local_size: int | None = None
    local_min_scale: float = 0.05
    local_max_scale: float = 0.14

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self.local_count >= 1, "recipe.views.local_count", self.local_count, "1 or more")
        require(
            self.local_size is None or self.local_size >= 1,
            "recipe.views.local_size",
            self.local_size,
            "1 or more",
        )
        require(
            0 < self.local_min_scale <= self.local_max_scale <= 1,
            "recipe.views.local_min_scale, local_max_scale",
            (self.local_min_scale, self.local_max_scale),
            "0 < smallest <= largest <= 1",
        )

    def small_side(self, large: int) -> int:
        """Return the side of a small crop in pixels, given that of a large one."""
        return self.local_size or max(1, round(large * 96 / 224))

    def describe(self) -> str:
        return f"{self.count} large and {self.local_count} small crops"


PARTS: tuple[type[Crops], ...] = (Crops, MultiCrop)
