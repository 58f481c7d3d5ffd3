"""Every test runs in float64 with strict promotion; what was compiled once is kept."""

import os
from pathlib import Path

# Half of the suite's time would go into machine code of which most runs once: into optimising it,
# into XLA's newer way of writing out fused operations, and into splitting programs that one core
# compiles. It changes what comes out by rounding at most. Set before JAX reads it.
os.environ["XLA_FLAGS"] = (
    f"{os.environ.get('XLA_FLAGS', '')} --xla_backend_optimization_level=0 "
    "--xla_cpu_use_fusion_emitters=false --xla_cpu_parallel_codegen_split_count=1"
)

import jax
import pytest

jax.config.update("jax_enable_x64", True)
jax.config.update("jax_numpy_dtype_promotion", "strict")
_KEPT = Path(__file__).parent.parent / ".pytest_cache"
# For commands that tests start: not the user's.
os.environ["GRADFLOW_CACHE"] = str(_KEPT / "gradflow")
# Each process has a cache of its own: another might read what it has only half written.
_CACHE = _KEPT / "jax" / os.environ.get("PYTEST_XDIST_WORKER", "alone")
jax.config.update("jax_compilation_cache_dir", str(_CACHE))
jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.2)


@pytest.fixture(scope="module", autouse=True)
def _programs_of_one_module_at_a_time():
    """A process that keeps every program of the suite runs out of memory maps and is aborted."""
    yield
    jax.clear_caches()
