"""Tensors in files of PyTorch (``.pt``) and of safetensors."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from fullrank.audit.stored import Stored, check_dtype, numbers
from fullrank.audit.untrusted import load_pickle
from fullrank.errors import UserError


def open_pt(path: Path, trust: bool) -> dict[str, Stored]:
    """Open a tensor, or a mapping or sequence of tensors, that ``torch.save`` wrote.

    Raises:
        UserError: the file is damaged, needs more than tensors, or has no tensor of real numbers.
    """
    held = load_pickle(path, trust)
    if isinstance(held, Tensor):
        return {"": _of_tensor(held, "", str(path))}
    tensors = {k: v for k, v in _named(held) if isinstance(v, Tensor)}
    if not tensors:
        raise UserError(
            f"{path}: holds {type(held).__name__} without a tensor at its top. Allowed: a tensor, "
            "a mapping or a sequence of tensors; a checkpoint needs backbone."
        )
    return {name: _of_tensor(tensor, name, str(path)) for name, tensor in tensors.items()}


def _named(held: Any) -> list[tuple[str, Any]]:
    if isinstance(held, Mapping):
        return [(str(k), v) for k, v in held.items()]
    if isinstance(held, list | tuple):
        return [(str(k), v) for k, v in enumerate(held)]
    return []


def _of_tensor(tensor: Tensor, name: str, where: str) -> Stored:
    if tensor.layout != torch.strided:
        raise UserError(f"{where}: holds a tensor of layout {tensor.layout}. Allowed: dense ones.")
    dtype = check_dtype(tensor.dtype, where)
    values = tensor.detach()

    def chunks(samples: int) -> Iterator[Tensor]:
        for start in range(0, len(values), samples):
            yield numbers(values[start : start + samples])

    return Stored(name, where, tuple(values.shape), dtype, chunks)


_SAFETENSORS_DTYPES = {
    "BOOL": "bool",
    "U8": "uint8",
    "I8": "int8",
    "F8_E4M3": "float8_e4m3fn",
    "F8_E5M2": "float8_e5m2",
    "I16": "int16",
    "U16": "uint16",
    "F16": "float16",
    "BF16": "bfloat16",
    "I32": "int32",
    "U32": "uint32",
    "F32": "float32",
    "F64": "float64",
    "I64": "int64",
    "U64": "uint64",
    "C64": "complex64",
}


def open_safetensors(path: Path, trust: bool) -> dict[str, Stored]:
    """Open the tensors of a safetensors file, which are read slice by slice.

    Raises:
        UserError: the file is damaged or truncated, or has no tensor of real numbers.
    """
    from safetensors import SafetensorError, safe_open

    found = {}
    try:
        with safe_open(path, framework="pt") as file:
            for name in file.keys():  # noqa: SIM118  (it is no mapping)
                described = file.get_slice(name)
                stored = described.get_dtype()
                dtype = _SAFETENSORS_DTYPES.get(stored, stored)
                if not hasattr(torch, dtype) or dtype.startswith("complex"):
                    raise UserError(f"{path} ({name}): holds {dtype} values. Allowed: real ones.")
                shape = tuple(described.get_shape())
                found[name] = Stored(name, str(path), shape, dtype, _slices(path, name, shape))
    except SafetensorError as error:
        raise UserError(f"{path}: truncated or damaged, no safetensors file ({error}).") from None
    if not found:
        raise UserError(f"{path}: has no tensor in it.")
    return found


def _slices(path: Path, name: str, shape: tuple[int, ...]) -> Any:
    def chunks(samples: int) -> Iterator[Tensor]:
        from safetensors import safe_open

        for start in range(0, shape[0], samples):
            # Opened anew, so that pages read before do not stay resident.
            with safe_open(path, framework="pt") as file:
                values = file.get_slice(name)[start : start + samples]
            yield numbers(values)

    return chunks
