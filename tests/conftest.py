"""Shapes in annotations are checked by beartype in every test."""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

from jaxtyping import install_import_hook

install_import_hook("fullrank", "checking.checked").__enter__()
