"""What the settings of all parts have in common."""

from dataclasses import asdict, dataclass
from typing import Any, ClassVar

from fullrank.errors import UserError


@dataclass(frozen=True)
class Part:
    """Settings of one part of a method: plain values that import no torch.

    ``kind`` names the part in YAML and on the command line; ``build`` (with arguments that
    depend on the field) makes the module.
    """

    kind: ClassVar[str]

    def to_dict(self) -> dict[str, Any]:
        """Return ``{"kind": ..., field: value, ...}``, from which the part can be made again."""
        return {"kind": self.kind, **asdict(self)}

    def describe(self) -> str:
        """Say in a few words what this part is, for diagrams and listings."""
        return self.kind

    def check(self, batch_size: int, dim: int | None) -> None:
        """Refuse a batch or an embedding that this part cannot work with, with the reason.

        Args:
            batch_size: images in the global batch.
            dim: of the embedding; None if only the backbone knows.

        Raises:
            UserError: it cannot.
        """


def require(holds: bool, argument: str, given: object, allowed: str) -> None:
    """Raise a ``UserError`` that names ``argument`` unless ``holds``."""
    if not holds:
        raise UserError(f"{argument}: {given!r} is not allowed. Allowed: {allowed}.")
