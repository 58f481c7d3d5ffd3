"""What the test problems are, measured.

``python -m benchmarks.problems [NAME ...] [--seed N]`` prints a table of all cases or of those
named: parameters, end time, sharpness at the start, at its largest and at the end, and its
integral Lambda over the run. An explicit method that is limited by stability takes one to two
gradients for each unit of Lambda.
"""

import argparse

import jax

from . import PROBLEMS, Case
from .sharpness import profile

_HEAD = "| name | parameters | t1 | sharpness: start, largest, end | Lambda | tags | what |"


def row(case: Case, seed: int) -> str:
    """One line of the table."""
    found = profile(case, seed)
    start, end = found.sharpness[[0, -1]]
    kinds = [*sorted(case.tags), *(["closed form"] if case.closed_form is not None else [])]
    return (
        f"| {case.name} | {found.size:,} | {case.t1:g} | "
        f"{start:.3g}, {found.sharpness.max():.3g}, {end:.3g} | {found.integral:.2g} | "
        f"{', '.join(kinds)} | {case.what} |"
    )


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.problems", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args(arguments)
    if unknown := set(options.names) - set(PROBLEMS):
        parser.error(
            f"no test problem {', '.join(sorted(unknown))}; there are {', '.join(PROBLEMS)}"
        )
    print(_HEAD)
    print("|---" * _HEAD.count(" | ") + "|---|")
    for name in options.names or PROBLEMS:
        print(row(PROBLEMS[name], options.seed), flush=True)


if __name__ == "__main__":
    jax.config.update("jax_enable_x64", True)
    main()
