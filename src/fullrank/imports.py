"""Large imports, faster."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def importing() -> Iterator[None]:
    """Do not look for garbage while modules are imported.

    They make hundreds of thousands of objects that stay; looking through them again and again is a
    sixth of the time that torch and Lightning take.
    """
    was = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was:
            gc.enable()
