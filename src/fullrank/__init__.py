"""fullrank: self-supervised learning that keeps its rank."""

__version__ = "0.1.0"

from typing import TYPE_CHECKING, Any

# The rooms `audit`, `train` and `report` share their names with verbs. Importing the (empty) rooms
# first leaves the names to the functions; `from fullrank.train.run import …` finds the rooms.
import fullrank.audit
import fullrank.report
import fullrank.train  # noqa: F401
from fullrank.errors import UserError
from fullrank.verbs import audit, explain, load_encoder, report, reproduce, sweep, train

if TYPE_CHECKING:
    from fullrank.monitor.monitor import Monitor

__all__ = [
    "Monitor",
    "UserError",
    "__version__",
    "audit",
    "explain",
    "load_encoder",
    "report",
    "reproduce",
    "sweep",
    "train",
]


def __getattr__(name: str) -> Any:
    """Import ``Monitor`` when it is asked for: it needs torch, and listings do not."""
    if name == "Monitor":
        from fullrank.monitor.monitor import Monitor

        return Monitor
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
