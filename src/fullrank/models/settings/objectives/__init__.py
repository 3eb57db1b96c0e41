"""Settings of all objectives, by what they do."""

from collections.abc import Mapping

from fullrank.models.settings.objective import ObjectivePart
from fullrank.models.settings.objectives import (
    clustering,
    contrastive,
    directions,
    distillation,
    distribution,
    gradient_parts,
    redundancy,
    stability,
    volume,
    whitening,
)

OBJECTIVES: Mapping[str, type[ObjectivePart]] = {
    part.kind: part
    for family in (
        directions,
        contrastive,
        redundancy,
        volume,
        whitening,
        clustering,
        distillation,
        distribution,
        stability,
        gradient_parts,
    )
    for part in family.PARTS
}
