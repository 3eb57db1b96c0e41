"""Where a run computes: device, precision, threads, and a description of the machine."""

from __future__ import annotations

import platform
from pathlib import Path
from typing import Any

import torch

from fullrank.errors import UserError
from fullrank.train.config import RunSettings


def accelerator(settings: RunSettings) -> str:
    """Return the device's type, ``cpu``, ``cuda`` or ``mps``, after checking that it is there.

    Raises:
        UserError: the device does not exist, or there are fewer than asked for.
    """
    present = {"cpu": True, "cuda": torch.cuda.is_available()}
    present["mps"] = torch.backends.mps.is_available()
    name = settings.device
    if name == "auto":
        name = next((kind for kind in ("cuda", "mps") if present[kind]), "cpu")
    if not present.get(name, False):
        there = ", ".join(kind for kind, is_there in present.items() if is_there)
        raise UserError(
            f"device: {settings.device!r} is not on this machine. Allowed here: auto, {there}."
        )
    if name == "cuda" and settings.devices > torch.cuda.device_count():
        raise UserError(
            f"devices: {settings.devices} given, but this machine has "
            f"{torch.cuda.device_count()} CUDA device(s)."
        )
    return name


def precision(settings: RunSettings, device: str) -> str:
    """Resolve ``auto``: ``bf16`` where the device multiplies bf16 matrices fast, else ``32``."""
    if settings.precision != "auto":
        return settings.precision
    if device == "cuda":
        return "bf16" if torch.cuda.is_bf16_supported() else "32"
    return "bf16" if device == "cpu" and _has_amx() else "32"


def _has_amx() -> bool:
    """Say whether the processor has matrix units for bf16 (Intel AMX)."""
    try:
        return "amx_bf16" in Path("/proc/cpuinfo").read_text()
    except OSError:
        return False


def environment(device: str, used_precision: str) -> dict[str, Any]:
    """Describe versions and machine, for the record."""
    import lightning

    return {
        "python": platform.python_version(),
        "torch": str(torch.__version__),
        "lightning": str(lightning.__version__),
        "device": device,
        "processor": _device_name(device),
        "threads": torch.get_num_threads(),
        "precision": used_precision,
    }


def _device_name(device: str) -> str:
    if device == "cuda":
        return torch.cuda.get_device_name()
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.split(":")[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()
