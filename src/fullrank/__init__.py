"""fullrank: self-supervised learning that keeps its rank."""

__version__ = "0.1.0"

# The rooms `train` and `report` share their names with verbs. Importing the (empty) rooms first
# leaves the names to the functions; `from fullrank.train.run import …` finds the rooms as ever.
import fullrank.report
import fullrank.train  # noqa: F401
from fullrank.errors import UserError
from fullrank.verbs import load_encoder, report, train

__all__ = ["UserError", "__version__", "load_encoder", "report", "train"]
