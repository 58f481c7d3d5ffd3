"""gradflow's own tasks, as test problems: what a tolerance buys on them, and what it costs."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import jax

import gradflow as gf
from benchmarks.families.work_precision.draw import Draw
from benchmarks.problems import Case
from benchmarks.suite import Column, Kind, Table

METHODS = ("bosh3", "tsit5", "diffrax Tsit5")


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
        note="diffrax with `PIDController(rtol, atol=rtol)` and its default norm.",
    )
    for draw in draws:
        for point in draw.points:
            if point.method in METHODS:
                ratio = point.worst / point.rung
                rtol = f"{point.rung:g}"
                table.add(draw.name, point.method, rtol, point.worst, ratio, point.evaluations)
    return table
