"""All that a run imports, for processes that are to have it before they have a run."""

from fullrank.imports import importing

with importing():
    import fullrank.train.run  # noqa: F401
