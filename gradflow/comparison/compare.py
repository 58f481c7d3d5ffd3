"""`compare`: what finite steps do to a flow."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from os import PathLike
from typing import Literal

import diffrax
import optax
from jaxtyping import Array, Key

from ..descent import Optimiser, whole_steps
from ..fields import GRADIENT, FieldSpec
from ..flow import Stop, check_tolerance, checked, identity, observed
from ..flow.spec import NEVER, SAVE
from ..observables import Observables
from ..problem import Problem, expect
from ..progress import Shown, Watch, shown
from ..save_times import SaveTimes
from ..spectra import Spectrum
from ..storage import Checkpoints, digest
from .lockstep import Comparison, Lockstep
from .spec import check_different


@shown
def compare(
    problem: Problem,
    learning_rates: Sequence[float],
    *,
    t1: float,
    optimiser: Optimiser = optax.sgd,
    modified: Callable[[float], FieldSpec] | None = None,
    drift_limit: float = 0.01,
    rtol: float = 1e-4,
    solver: str | diffrax.AbstractSolver = "auto",
    field: Literal["gradient"] | FieldSpec = GRADIENT,
    observables: Observables = (),
    save: SaveTimes = SAVE,
    save_each: Mapping[str, SaveTimes] | None = None,
    spectrum: Spectrum | None = None,
    stop: Stop = NEVER,
    max_steps: int = 100_000,
    certify: bool = False,
    batch_size: int | None = None,
    key: Key[Array, ""] | None = None,
    checkpoints: Checkpoints | str | PathLike[str] | None = None,
    progress: Shown = None,
    cancelled: Callable[[], bool] | None = None,
) -> Comparison:
    """Solve the flow and descend from the same start, held against each other at matched times.

    All runs go on side by side from one time of comparison to the next, so that no parameters
    are kept but the present ones: memory does not grow with the number of times. The times are
    multiples of the largest learning rate near the save times asked for; see
    `gradflow.comparison.lattice.Lattice` for rates that do not divide it.

    Args:
        problem: the loss, where it starts and what it sees.
        learning_rates: one descent each, all different; t = learning_rate * step.
        t1: end time.
        optimiser: the function of the learning rate that makes the optimiser.
        modified: from a learning rate to the field that its descent follows to second order:
            ``lambda rate: gf.fields.Modified(learning_rate=rate)`` for plain descent. Each is
            solved too, and the drift from it recorded.
        drift_limit: a relative drift; the largest learning rate that stays within it is sought.
        rtol, solver, field, observables, save, save_each, spectrum, stop, max_steps, certify:
            of the flow, as in `gradflow.solve`. The sharpness is recorded in any case, at twenty
            times unless asked for otherwise. Where the flow stops early, so do the descents.
        batch_size, key: of the descents, as in `gradflow.descend`.
        checkpoints: as in `gradflow.solve`; the state of all runs is kept together.
        progress: as in `gradflow.solve`, of the run that is being advanced.
        cancelled: called now and then; everything ends when it returns true, and is kept.

    Returns:
        The comparison.

    Raises:
        ValueError: an argument is out of range: a learning rate that is zero, negative, not a
            number, there twice or larger than t1; an optimiser made already.
        TypeError: the problem has no loss, or the optimiser needs something else.
        OtherRunError: the checkpoints are of another comparison.

    Warns:
        CheckpointWarning: a checkpoint could not be read or not be written.
        StabilityWarning: a learning rate of plain descent is above 2 / sharpness at the start.

    >>> import gradflow as gf
    >>> import optax
    >>> problem = gf.Problem(optax.l2_loss, 1.0, 0.0)  # L(w) = w^2 / 2
    >>> compared = gf.compare(problem, [0.1, 0.05], t1=2.0, save=gf.Linear(count=5))
    >>> compared["drift"][-1].round(3)  # exp(-2) - (1 - eta)^(2 / eta)
    array([0.014, 0.007])
    >>> print(compared.findings[0])
    at t = 2 the drift from the flow grows with the learning rate, up to 0.1, to the power 1.0...
    """
    expect(problem)
    spec = checked(
        t1=t1, rtol=rtol, solver=solver, field=field, save=save, save_each=save_each,
        spectrum=spectrum, stop=stop, max_steps=max_steps, certify=certify,
    )  # fmt: skip
    check_tolerance(rtol, problem.dtype, certify)
    if not problem.has_loss:
        raise TypeError("descent needs a loss, and this problem is a vector field")
    ends = [whole_steps(rate, t1) for rate in learning_rates]
    rates = tuple(rate for rate, _ in ends)
    check_different(rates)
    if not rates:
        raise ValueError("learning_rates is empty; give one at least")
    if isinstance(optimiser, optax.GradientTransformation):
        raise ValueError(
            "the optimiser was made already, for one learning rate; pass the function that makes "
            "it, e.g. optax.sgd or lambda rate: optax.sgd(rate, momentum=0.9)"
        )
    together = Lockstep(problem, spec, solver, observables, ends, modified)
    together.begin(optimiser, batch_size, key)
    told = together.overall(progress) if callable(progress) else None
    watch = Watch(told, cancelled)
    kept = Checkpoints.of(checkpoints)
    if kept is not None:
        of_descents = {
            "learning_rates": rates,
            "batch_size": batch_size,
            "key": None if key is None else digest(key),
            "modified": modified is not None,
        }
        what = observed(problem, spec, observables)
        kept.go_on(identity(problem, spec, solver, what) | of_descents, together.restore)
        watch = replace(watch, keep=lambda ends: kept.keep(together.state, last=ends))
    together.go(watch, kept)
    return together.comparison(watch, drift_limit)
