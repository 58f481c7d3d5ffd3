"""The library's import against diffrax's, and the whole command, cold, against what it needs.

``python -m benchmarks.startup``: whole processes, alternating, on one machine; medians. gradflow
imports its rooms when they are first asked for, so ``gf.solve`` is what brings JAX in. The command
solves the flow of configs/cooccurrence.yaml alone, without certificate and descents.
"""

import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROUNDS = 5
CONFIG = Path(__file__).parent.parent / "configs" / "cooccurrence.yaml"
IMPORTS = {
    "diffrax": "import diffrax",
    "gradflow": "import gradflow",
    "gf.solve": "import gradflow as gf; gf.Problem, gf.solve",
}
ALONE = ("flow.certify=false", "descent=null")


def seconds(*arguments):
    began = time.perf_counter()
    subprocess.run([sys.executable, *arguments], check=True, capture_output=True)
    return time.perf_counter() - began


def main():
    rows = {name: [] for name in (*IMPORTS, "import", "help", "solve")}
    with tempfile.TemporaryDirectory() as folder:
        for i in range(ROUNDS):
            for name, source in IMPORTS.items():
                rows[name].append(seconds("-c", source))
            rows["import"].append(seconds("-c", "import jax, diffrax, matplotlib.pyplot"))
            rows["help"].append(seconds("-m", "gradflow", "--help"))
            rows["solve"].append(
                seconds("-m", "gradflow", "solve", str(CONFIG), *ALONE, "--output", f"{folder}/{i}")
            )
    for name, times in rows.items():
        base = rows["diffrax" if name in IMPORTS else "import"]
        ratios = [a / b for a, b in zip(times, base, strict=True)]
        print(
            f"{name:<8} median {statistics.median(times):6.2f} s, {statistics.median(ratios):5.2f} "
            f"times {'diffrax' if name in IMPORTS else 'the import'} "
            f"({min(ratios):.2f} to {max(ratios):.2f})"
        )


if __name__ == "__main__":
    main()
