"""PyTorch's pickles from anywhere: nothing but tensors and plain values is loaded."""

from __future__ import annotations

import pickle
import re
import warnings
from pathlib import Path
from typing import Any

import torch

from fullrank.errors import UserError


def load_pickle(path: Path, trust: bool) -> Any:
    """Load what ``torch.save`` wrote, on the CPU, mapped into memory where the format allows it.

    Args:
        path: the file.
        trust: load objects of any class too, which can run any code.

    Raises:
        UserError: the file is empty, truncated or damaged, or holds more than tensors and plain
            values and is not trusted.
    """
    if path.stat().st_size == 0:
        raise UserError(f"{path}: empty (0 bytes).")
    options: dict[str, Any] = {"map_location": "cpu", "weights_only": not trust}
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # of what then is refused with a reason
            try:
                return torch.load(path, mmap=True, **options)
            except RuntimeError as error:
                if "mmap can only be used" not in str(error):  # torch before 1.6 wrote no zip
                    raise
                return torch.load(path, **options)
    except pickle.UnpicklingError as error:
        asked = re.search(r"GLOBAL (\S+)", str(error))
        broken = re.search(r"truncated|invalid load key|Ran out of input", str(error))
        if "Weights only load failed" in str(error) and not broken:
            wants = f" It asks for {asked[1]}." if asked else ""
            raise UserError(
                f"{path}: holds more than tensors and plain values, and loading it can run any "
                f"code.{wants} Allowed: tensors, safetensors, or trust, if you know where the "
                "file comes from."
            ) from None
        raise _damaged(path, error) from None
    except OSError:
        raise
    # Damaged bytes make pickle raise nearly anything.
    except Exception as error:
        raise _damaged(path, error) from None


def _damaged(path: Path, error: Exception) -> UserError:
    lines = str(error).splitlines() or [type(error).__name__]
    return UserError(f"{path}: truncated or damaged, no PyTorch file ({lines[0][:200]}).")
