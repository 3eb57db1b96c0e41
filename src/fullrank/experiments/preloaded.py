"""All that a run imports, for processes that are to have it before they have a run."""

import gc

from fullrank.imports import importing

with importing():
    import fullrank.train.run  # noqa: F401

# What is there now stays as long as the process, and those forked from it share its pages: it is
# not looked through again.
gc.freeze()
