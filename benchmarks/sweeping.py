"""Two hundred small runs by one worker and by two, and a sweep that is killed at half.

``python -m benchmarks.sweeping``: 200 seeds of a matrix factorisation. One worker and two, each in
a cluster of its own, take turns; what counts is points a second from the first that has ended,
which has compiled, to the last. The start is from the call until that first point. The scheduler
lives in this process, whose memory is told when a quarter and when all of the points have ended. At
last the command itself is killed with SIGKILL at half, all its processes included, and started
again.
"""

import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import psutil

from gradflow import sweep

POINTS, ROUNDS = 200, 1
CONFIG = """
problem: {kind: matrix-factorisation, size: 80, strengths: [8, 4, 2, 1], width: 80}
flow: {t1: 18, rtol: 1e-8, save: {kind: linear, count: 100}}
seed: {sweep: {range: [0, %d]}}
"""


def memory() -> float:
    """Of this process, in MB."""
    return psutil.Process().memory_info().rss / 1e6


def throughput(
    plan: sweep.Plan, directory: Path, workers: int
) -> tuple[float, float, float, float]:
    """Seconds to the first point, points a second after it, and MB at a quarter and at the end."""
    began = time.perf_counter()
    ended: list[float] = []
    held: list[float] = []

    def tell(standing: sweep.Standing) -> None:
        if standing.done:
            ended.append(time.perf_counter())
            held.append(memory())

    # Of what is measured, the record and its figures, which come last, are no part.
    outcome = sweep.run(plan, directory, workers=sweep.Workers(workers), progress=tell)
    assert outcome.standing.done == len(plan.points)
    rate = (len(ended) - 1) / (ended[-1] - ended[0])
    print(
        f"{workers} worker{'s' * (workers > 1)}: first point after {ended[0] - began:.1f} s, then "
        f"{rate:.2f} points/s; record and figures {time.perf_counter() - ended[-1]:.1f} s; "
        f"{held[len(held) // 4]:.0f} MB at a quarter, {held[-1]:.0f} MB at the end"
    )
    return ended[0] - began, rate, held[len(held) // 4], held[-1]


def killed_at_half(path: Path, directory: Path) -> None:
    """What was there is left alone, and all else is run."""
    command = [sys.executable, "-m", "gradflow", "sweep", str(path), "--output", str(directory)]

    def there() -> dict[Path, int]:
        found = directory.glob("points/*/summary.json")
        return {path: path.stat().st_mtime_ns for path in found}

    process = subprocess.Popen([*command, "--quiet"], start_new_session=True)
    while len(there()) < POINTS // 2:
        time.sleep(0.05)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    time.sleep(1.0)
    before = there()
    whole = {path for path in before if sweep.status(path.parent).done}
    subprocess.run([*command, "--quiet"], check=True, capture_output=True)
    after = there()
    kept = sum(after[path] == at for path, at in before.items())
    print(
        f"killed with {len(whole)} of {POINTS} points whole; started again it ran "
        f"{len(after) - kept} and kept {kept}"
    )
    assert len(after) == POINTS
    assert all(after[path] == before[path] for path in whole)
    assert len(after) - kept == POINTS - len(whole)


def main() -> None:
    rates: dict[int, list[float]] = {1: [], 2: []}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "seeds.yaml").write_text(CONFIG % POINTS)
        plan = sweep.plan(folder / "seeds.yaml")
        for i in range(ROUNDS):
            for workers, found in rates.items():
                found.append(throughput(plan, folder / f"{workers}-{i}", workers)[1])
        ratio = statistics.median(rates[2]) / statistics.median(rates[1])
        print(f"two workers have {ratio:.2f} times the throughput of one")
        killed_at_half(folder / "seeds.yaml", folder / "killed")


if __name__ == "__main__":
    main()
