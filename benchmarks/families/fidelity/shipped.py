"""gradflow's own tasks, as test problems: what a tolerance buys on them, and what it costs."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import diffrax
import jax

import gradflow as gf
from benchmarks.families.work_precision.draw import Draw
from benchmarks.methods import METHODS as ALL
from benchmarks.methods import Method
from benchmarks.methods.by_diffrax import by_diffrax
from benchmarks.problems import Case
from benchmarks.suite import Column, Kind, Table

_ATOL = 1e-3
# As it is documented diffrax's absolute tolerance is the relative one, and holds for each weight.
STRICTER = Method(
    f"diffrax Tsit5, atol = {_ATOL:g} rtol",
    by_diffrax(diffrax.Tsit5(), _ATOL),
    (1e-3, 1e-4, 1e-6),
)
_BY_NAME = ("bosh3", "tsit5", "diffrax Tsit5")
METHODS = (*(ALL[name] for name in _BY_NAME), STRICTER)


def _make(task: gf.tasks.Task) -> Callable[[int], gf.Problem]:
    return lambda seed: task.build(jax.random.key(seed)).quiet()


CASES = (
    Case(
        "transformer-normal",
        "co-occurrence transformer, He-normal start",
        _make(gf.tasks.Cooccurrence(initialisation="kaiming-normal")),
        300.0,
        frozenset(),
    ),
    Case(
        "digits-logistic",
        "logistic regression on scikit-learn's digits",
        _make(gf.tasks.Digits()),
        100.0,
        frozenset(),
    ),
    Case(
        "digits-mlp",
        "a network on scikit-learn's digits",
        _make(gf.tasks.Digits(model="mlp")),
        20.0,
        frozenset(),
    ),
)


def bought(draws: Sequence[Draw]) -> Table:
    """The worst error of each run as a multiple of its tolerance."""
    table = Table(
        "What a tolerance buys on the tasks",
        (
            Column("problem, seed"),
            Column("method"),
            Column("rtol"),
            Column("worst error", Kind.ERROR),
            Column("over rtol", Kind.NUMBER),
            Column("gradients", Kind.COUNT),
        ),
        note="diffrax with its default norm, and atol = rtol unless it says otherwise.",
    )
    for draw in draws:
        for point in draw.points:
            if point.method in (*_BY_NAME, STRICTER.name):
                ratio = point.worst / point.rung
                rtol = f"{point.rung:g}"
                table.add(draw.name, point.method, rtol, point.worst, ratio, point.evaluations)
    return table
