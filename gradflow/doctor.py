"""What this machine offers, and what it offers in vain."""

from __future__ import annotations

import os
import platform
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import jax

from . import compiled

_PACKAGES = (
    "gradflow", "jax", "jaxlib", "diffrax", "equinox", "optax", "optimistix", "numpy", "pydantic",
    "matplotlib", "xarray", "netcdf4", "scikit-learn", "distributed",
)  # fmt: skip


class DeviceError(Exception):
    """JAX finds nothing to compute on; the message is one line with the way out."""


def devices() -> list[jax.Device]:
    """The devices that JAX computes on.

    Raises:
        DeviceError: there are none, as JAX_PLATFORMS asks for what is not there.
    """
    try:
        return jax.devices()
    except (RuntimeError, AssertionError) as error:  # the latter where a plug-in is missing
        reason = " ".join(str(error).split()) or "it is not installed"
        raise DeviceError(
            f"JAX finds no device for JAX_PLATFORMS={os.environ.get('JAX_PLATFORMS', '')}: "
            f"{reason}; unset it, or see gradflow doctor"
        ) from None


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
    threads = os.environ.get("OMP_NUM_THREADS")
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    yield f"threads: {cores} processors usable, OMP_NUM_THREADS {threads or 'not set'}"
    try:
        yield f"compiled programs: {_compiled()}"
    except compiled.PlaceError as error:
        yield f"warning: {error}"
    try:
        found = devices()
    except DeviceError as error:
        yield f"warning: {error}"
        return
    yield "devices: " + ", ".join(f"{d.platform} ({d.device_kind})" for d in found)
    if found[0].platform == "cpu" and (gpu := _unused_gpu()):
        yield f"warning: {gpu} is present but unused; {_remedy(chosen)}"
    jax.config.update("jax_enable_x64", True)  # as `gradflow solve` does
    held = jax.numpy.ones((), jax.numpy.float64).dtype
    yield f"float64: {'works' if held == 'float64' else 'is not available on this device'}"


def _compiled() -> str:
    """Where the command keeps what it compiles, and how much there is of it."""
    if (folder := compiled.place()) is None:
        if not jax.config.values["jax_enable_compilation_cache"]:
            return "not kept, as JAX_ENABLE_COMPILATION_CACHE says"
        if elsewhere := jax.config.values["jax_compilation_cache_dir"]:
            return f"by JAX in {elsewhere}"
        if compiled.hook() is None:
            return "not kept: this JAX has no place for it"
        return f"not kept, as {compiled.VARIABLE} says or there is no home"
    compiled.folder(folder)
    kept = compiled.kept(folder)
    size = sum(program.size for program in kept)
    return f"{len(kept)} in {folder}, {size / 1e6:.3g} MB; {compiled.VARIABLE}=off keeps none"


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
