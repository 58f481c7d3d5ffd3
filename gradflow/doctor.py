"""What this machine offers, and what it offers in vain."""

from __future__ import annotations

import os
import platform
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import jax

_PACKAGES = (
    "gradflow", "jax", "jaxlib", "diffrax", "equinox", "optax", "optimistix", "numpy", "pydantic",
    "matplotlib", "xarray", "netcdf4", "scikit-learn",
)  # fmt: skip


def examine() -> Iterator[str]:
    """Lines of ``name: finding``; one that begins with ``warning`` says what to do."""
    yield f"python: {platform.python_version()} on {platform.platform()}"
    for package in _PACKAGES:
        try:
            yield f"{package}: {version(package)}"
        except PackageNotFoundError:
            yield f"warning: {package} is not installed; pip install {package}"
    chosen = os.environ.get("JAX_PLATFORMS")
    yield f"JAX_PLATFORMS: {chosen or 'not set'}"
    try:
        devices = jax.devices()
    except RuntimeError as error:
        reason = " ".join(str(error).split())
        yield f"warning: JAX finds no device: {reason}; check JAX_PLATFORMS"
        return
    yield "devices: " + ", ".join(f"{d.platform} ({d.device_kind})" for d in devices)
    if devices[0].platform == "cpu" and (gpu := _unused_gpu()):
        yield f"warning: {gpu} is present but unused; {_remedy(chosen)}"
    with jax.enable_x64(True):
        held = jax.numpy.ones((), jax.numpy.float64).dtype
    yield f"float64: {'works' if held == 'float64' else 'is not available on this device'}"
    threads = os.environ.get("OMP_NUM_THREADS")
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    yield f"threads: {cores} processors usable, OMP_NUM_THREADS {threads or 'not set'}"


def _unused_gpu() -> str | None:
    """The name of a GPU whose driver is loaded, seen without any GPU library."""
    for path, name in (
        ("/proc/driver/nvidia/version", "an NVIDIA GPU"),
        ("/dev/kfd", "an AMD GPU"),
    ):
        if Path(path).exists():
            return name
    return None


def _remedy(chosen: str | None) -> str:
    if chosen and "cpu" in chosen:
        return "JAX_PLATFORMS asks for the CPU: unset it"
    return "install JAX for it: pip install 'gradflow[gpu]'"
