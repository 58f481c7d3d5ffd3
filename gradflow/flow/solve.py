"""`solve`: integrate a problem's flow to a tolerance and record it on the way."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from os import PathLike
from typing import Any, Literal

import diffrax

from .. import _spec
from ..fields import GRADIENT, FieldSpec
from ..observables import Observables
from ..problem import Problem, expect
from ..progress import Shown, Watch, shown
from ..save_times import SaveTimes
from ..spectra import Spectrum
from ..storage import Checkpoints
from ..trajectory import Trajectory
from .plan import observed
from .solving import Solving
from .spec import NEVER, SAVE, FlowSpec, Stop, check_tolerance


@shown
def solve(
    problem: Problem,
    *,
    t1: float,
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
    checkpoints: Checkpoints | str | PathLike[str] | None = None,
    progress: Shown = None,
    cancelled: Callable[[], bool] | None = None,
) -> Trajectory:
    """Integrate d params/dt = -grad L, or any other field, from t = 0 to `t1`.

    The run is compiled once for its shapes; values of `t1`, `rtol`, `stop`, the save times and
    the data may change without compiling again. Where it is cut into chunks for `progress` does
    not change a single step.

    Args:
        problem: the loss or vector field, where it starts and what it sees.
        t1: end time. Gradient descent with learning rate eta is at t = eta * step.
        rtol: bounds the error of the trajectory, |params(t) - exact|_2 relative to the distance
            |exact - params(0)|_2 travelled.
        solver: ``"auto"``, a name in `gradflow.solvers.SOLVERS`, or any `diffrax.AbstractSolver`
            with an error estimate. ``"auto"`` begins with an explicit method, chosen by the
            tolerance, and changes to a stabilised one where the flow is stiff, and back;
            ``stats["legs"]`` says which ran from when to when.
        field: ``"gradient"``, or one of `gradflow.fields`, e.g. ``Modified(learning_rate=0.01)``.
            A problem that was given as a vector field follows that.
        observables: recorded beside the loss, the gradient norm, the distance travelled, the
            energy dissipated, the problem's own and, where the model has layers that the flow
            keeps in balance, `gradflow.invariants.balancedness`: functions ``(t, params, data)``,
            in a list or by name, see `gradflow.observable`, and `Observable` objects.
        save: when to record: `Linear`, `Logarithmic` or `Explicit`.
        save_each: other save times for single observables, by name.
        spectrum: what to record of the Hessian, in one word; `gradflow.spectra` has the
            observables one by one.
        stop: when to end before `t1`.
        max_steps: attempted steps after which the run counts as failed.
        certify: whether the error of this very run is estimated too, of its parameters and of
            everything recorded: see `gradflow.flow.certificate`.
        checkpoints: a directory, or `gradflow.Checkpoints` in one: the state of the run is kept
            there now and then, and it goes on from the latest that is there, to the same bits.
        progress: ``True`` shows how far the run is, in a terminal or a notebook; a function is
            called with it now and then.
        cancelled: called now and then; the run ends when it returns true.

    Returns:
        The trajectory up to the end, whatever ended it: ``result`` is a key of `RESULTS`, and a
        failure of the numerics one of `FAILURES`.

    Raises:
        ValueError: an argument is out of range, or `rtol` is below what the dtype can hold.
        TypeError: the problem has no loss where one is needed.
        OtherRunError: the checkpoints are of another run.

    Warns:
        CheckpointWarning: a checkpoint could not be read or not be written; the run goes on.

    >>> import gradflow as gf
    >>> import optax
    >>> problem = gf.Problem(optax.l2_loss, 1.0, 0.0)  # L(w) = w^2 / 2
    >>> flow = gf.solve(problem, t1=2.0, save=gf.Linear(count=5))
    >>> flow["loss"].round(3)  # exp(-2t) / 2
    array([0.5  , 0.184, 0.068, 0.025, 0.009])
    >>> round(float(flow.final_params), 3), flow.result
    (0.135, 'end_time')
    """
    expect(problem)
    spec = checked(
        t1=t1, rtol=rtol, solver=solver, field=field, save=save,
        save_each=save_each, spectrum=spectrum, stop=stop, max_steps=max_steps,
        certify=certify,
    )  # fmt: skip
    check_tolerance(rtol, problem.dtype, certify)
    what = observed(problem, spec, observables)
    solving = Solving(problem, spec, solver, what, Checkpoints.of(checkpoints))
    return solving.go(Watch(progress, cancelled))


def checked(**fields: Any) -> FlowSpec:
    """The arguments of `solve` as a spec; a solver object passes in place of its name.

    Raises:
        ValueError: an argument is out of range.
    """
    if isinstance(fields.get("solver"), diffrax.AbstractSolver):
        fields["solver"] = "auto"
    fields["save_each"] = dict(fields.get("save_each") or {})
    return _spec.checked(FlowSpec, **fields)
