"""What the test problems are, measured.

``python -m benchmarks.problems [NAME ...] [--seeds N ...]`` prints a table of all cases or of
those named: parameters, end time, sharpness at the start, at its largest and at the end, and its
integral Lambda over the run. An explicit method that is limited by stability takes one to two
gradients for each unit of Lambda.
"""

import argparse

import jax

from . import PROBLEMS, Case
from .sharpness import profile

_HEAD = "| name | seed | parameters | t1 | sharpness: start, largest, end | Lambda | tags | what |"


def _digits(value: float, count: int) -> str:
    """`value` to `count` significant digits, its thousands set apart."""
    return f"{float(f'{value:.{count}g}'):,g}"


def row(case: Case, seed: int) -> str:
    """One line of the table."""
    found = profile(case, seed)
    values = found.sharpness
    cells = (
        case.name,
        str(seed),
        f"{found.size:,}",
        f"{case.t1:g}",
        "; ".join(_digits(each, 3) for each in (values[0], values.max(), values[-1])),
        _digits(found.integral, 2),
        ", ".join([*sorted(case.tags), *(["closed form"] if case.closed_form else [])]),
        case.what,
    )
    return f"| {' | '.join(cells)} |"


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.problems", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0], metavar="N")
    options = parser.parse_args(arguments)
    if unknown := set(options.names) - set(PROBLEMS):
        parser.error(
            f"no test problem {', '.join(sorted(unknown))}; there are {', '.join(PROBLEMS)}"
        )
    print(_HEAD)
    print("|---" * (_HEAD.count("|") - 1) + "|")
    for name in options.names or PROBLEMS:
        for seed in options.seeds:
            print(row(PROBLEMS[name], seed), flush=True)


if __name__ == "__main__":
    jax.config.update("jax_enable_x64", True)
    main()
