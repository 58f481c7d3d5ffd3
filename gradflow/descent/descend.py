"""`descend`: gradient descent by finite steps, recorded like a flow."""

from __future__ import annotations

import math
import numbers
import operator
from collections.abc import Callable, Mapping
from dataclasses import replace
from os import PathLike
from typing import Any

import optax
from jaxtyping import Array, Key

from ..invariants import automatic
from ..observables import DISSIPATED, Observables, recorded
from ..problem import Problem, expect
from ..progress import Shown, Watch, shown
from ..recording import grouped
from ..save_times import Logarithmic, SaveTimes
from ..spectra import Spectrum
from ..storage import Checkpoints, digest
from ..trajectory import Trajectory
from .run import DescentRun
from .stepping import Optimiser


@shown
def descend(
    problem: Problem,
    optimiser: Optimiser = optax.sgd,
    *,
    learning_rate: float,
    t1: float | None = None,
    steps: int | None = None,
    observables: Observables = (),
    save: SaveTimes | None = None,
    save_each: Mapping[str, SaveTimes] | None = None,
    spectrum: Spectrum | None = None,
    batch_size: int | None = None,
    key: Key[Array, ""] | None = None,
    checkpoints: Checkpoints | str | PathLike[str] | None = None,
    progress: Shown = None,
    cancelled: Callable[[], bool] | None = None,
) -> Trajectory:
    """Descend by finite steps, and record the same as `gradflow.solve` on the way.

    The steps are compiled into chunks; where these end changes nothing. Descent is where it is
    only after whole steps: for each save time the step whose own time is nearest is recorded,
    once, and the trajectory's times are those steps' own.

    Args:
        problem: the loss, where it starts and what it sees.
        optimiser: any of optax's, or a function of the learning rate that makes one, such as
            ``optax.sgd`` itself or ``lambda rate: optax.sgd(rate, momentum=0.9)``. It is given
            gradients, parameters and the value of the loss.
        learning_rate: the time that one step stands for: t = learning_rate * step. An
            optimiser that was made already must have been made with the same.
        t1: end time; the last whole step not beyond it is the end.
        steps: how many steps, instead of `t1`.
        observables: recorded beside what every run records; see `gradflow.solve`.
        save: when to record: `Linear`, `Logarithmic` or `Explicit`, up to the end.
        save_each: other save times for single observables, by name.
        spectrum: what to record of the Hessian.
        batch_size: samples in each step's gradient, drawn anew without replacement; all of them
            unless given. What is recorded is of the whole loss all the same.
        key: from which the batches are drawn.
        checkpoints: as in `gradflow.solve`; of those at simulated times each is kept at the first
            moment after that time at which the descent is looked at.
        progress: ``True`` shows how far the run is, in a terminal or a notebook; a function is
            called with it now and then.
        cancelled: called now and then; the run ends when it returns true.

    Returns:
        The trajectory, with the variable ``step`` beside those of a flow, but without the energy
        dissipated, which would cost a quarter of a step. Its
        ``result`` is ``"end_time"``, ``"cancelled"``, ``"diverged"`` if a loss or a step was not
        finite, in which case it ends before the step that was not, or ``"not_finite"`` if that
        was the very first. In ``stats`` are ``steps``, ``diverged``, and
        ``gradient_evaluations``, one for each step, on a batch where there are batches.

    Raises:
        ValueError: an argument is out of range, or the optimiser was made with another rate, as
            far as that shows in its steps: those of plain gradient descent.
        TypeError: the problem has no loss, or the optimiser needs something else.
        OtherRunError: the checkpoints are of another descent.

    Warns:
        CheckpointWarning: a checkpoint could not be read or not be written.
        StabilityWarning: the steps are those of plain descent, and too long where it starts.

    >>> import gradflow as gf
    >>> import optax
    >>> problem = gf.Problem(optax.l2_loss, 1.0, 0.0)  # L(w) = w^2 / 2
    >>> descent = gf.descend(problem, learning_rate=0.1, steps=4, save=gf.Linear(count=5))
    >>> descent["step"], descent["loss"].round(3)  # (1 - 0.1)^(2 step) / 2
    (array([0, 1, 2, 3, 4]), array([0.5  , 0.405, 0.328, 0.266, 0.215]))
    """
    expect(problem)
    rate, count = whole_steps(learning_rate, t1, steps)
    asked = spectrum.build(problem) if spectrum is not None else ()
    what = recorded(problem, observables, asked, automatic(problem))
    what = tuple(o for o in what if o is not DISSIPATED)
    groups = grouped(save or Logarithmic(), save_each or {}, what)
    # The end of so many steps as it would be written: 29, not 0.29 x 100 = 28.999999999999996.
    end = float(f"{rate * count:.15g}") if t1 is None else t1
    run = DescentRun(problem, optimiser, rate, count, groups, end, batch_size, key)
    run.check_rate()
    watch, kept = Watch(progress, cancelled), Checkpoints.of(checkpoints)
    if kept is None:
        watch.reach(run)
        return run.trajectory()
    told = {
        "learning_rate": rate,
        "steps": count,
        "batch_size": batch_size,
        "key": None if key is None else digest(key),
        "save": [group.save.model_dump(mode="json") for group in groups],
        "observables": [o.name for o in what],
        "params": digest(problem.params, problem.static),
        "data": digest(problem.data),
    }
    kept.go_on(told, lambda state: run.restore(state["descents"][0]))

    def keep(now: bool = False, ends: bool = False) -> None:
        kept.keep(lambda: {"descents": [run.state()]}, now, ends)

    watch = replace(watch, keep=lambda ends: keep(ends=ends))
    for time in kept.times(end, after=run.time):
        watch.reach(run, math.ceil(time / rate))
        keep(now=True)
    watch.reach(run)
    keep(now=kept.number > 0)
    return run.trajectory()


def whole_steps(
    learning_rate: float, t1: float | None = None, steps: int | None = None
) -> tuple[float, int]:
    """The learning rate, and how many steps it takes to `t1` or how many are asked for.

    Raises:
        ValueError: one of them is out of range, or not exactly one of the two ends is given.
    """
    _check_number("learning_rate", learning_rate)
    if (t1 is None) == (steps is None):
        got = "neither" if t1 is None else "both"
        raise ValueError(f"a descent takes either t1 or steps; got {got}")
    if steps is not None:
        if not hasattr(steps, "__index__") or not 1 <= steps < 2**31:
            raise ValueError(f"steps = {steps!r}; allowed: a whole number from 1 to {2**31 - 1}")
        return float(learning_rate), operator.index(steps)
    assert t1 is not None
    _check_number("t1", t1)
    # An end that is a whole number of steps but for rounding is one.
    count = math.floor(t1 / learning_rate * (1 + 1e-12) + 1e-9)
    if count < 1:
        raise ValueError(
            f"learning_rate = {learning_rate:g} is larger than t1 = {t1:g}, so that not one step "
            "fits; lower it, or raise t1"
        )
    if count >= 2**31:
        raise ValueError(
            f"learning_rate = {learning_rate:g} takes {count} steps to t1 = {t1:g}; at most "
            f"{2**31 - 1} can be counted"
        )
    return float(learning_rate), count


def _check_number(name: str, value: Any) -> None:
    if not (isinstance(value, numbers.Real) and 0 < float(value) < math.inf):
        raise ValueError(f"{name} = {value!r}; allowed: a finite number above 0")
