"""`polish`: from the end of a flow to the critical point that it goes to."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree
from jaxtyping import PyTree

from .._linalg import PRECISION
from .._parameters import partition
from .._spec import checked
from ..problem import Problem
from ..trajectory import Trajectory
from .approach import Approach
from .continuation import ConjugateGradients, Dense, continuation
from .curvature import WHOLE, curvature
from .landscape import Landscape, distance, look
from .library import LIBRARY
from .point import CriticalPoint
from .spec import Method, Polish

_DENSE = 200  # parameters up to which auto forms the Hessian
_ROUNDINGS = 1000  # of the parameters, within which two points are the same


def polish(
    problem: Problem,
    start: Any = None,
    *,
    method: Method = "auto",
    gradient_norm: float = 1e-12,
    max_steps: int = 1000,
    cancelled: Callable[[], bool] | None = None,
) -> CriticalPoint:
    """Go on from the end of a flow to the critical point it goes to, and say what that is.

    Args:
        problem: with a loss.
        start: the trajectory of the problem's gradient flow, from whose end to go on; or
            parameters in the structure of the problem's own, which are taken for those at t = 0;
            the problem's own if ``None``.
        method: ``"newton"``, ``"newton-cg"``, ``"levenberg-marquardt"`` or ``"bfgs"``; ``"auto"``
            takes the first for up to 200 parameters and the second for more. These two take
            implicit steps along the flow, which become those of Newton's method as they become
            longer (`gradflow.critical_points.continuation`): one by the eigenvalues of the
            Hessian, which is formed, the other by conjugate gradients on Hessian-vector
            products. The other two are optimistix's and know nothing of the flow; from near a
            saddle BFGS can end "not converged" where Newton's method finds the minimum. The
            method of Levenberg and Marquardt takes a problem with a `sample_loss` that is nowhere
            negative, as squared errors; BFGS a matrix of the size of the Hessian. Both leave
            the last digits, which values of the loss do not show, to Newton's method.
        gradient_norm: what |grad L|_2 is brought down to.
        max_steps: tried at most.
        cancelled: called now and then; the search ends when it returns true.

    Returns:
        The point and its type, by the eigenvalues of the Hessian.

        Whether the flow was heading there is found by following it on, from `start` until its
        distance from the point has halved and implicit steps from there come back to the point;
        unless it is so slow, beside its sharpness, that this would take some 100,000 gradients.
        Of a saddle it is told only where the start has no offset along a direction that grows.

        Where the point is a minimum, or on a manifold of minima, and the flow near it is already
        that of the quadratic approximation, to a fifth, `t_infinity` is the time at which the
        gradient of that one is down to `gradient_norm`.

        Where rounding does not allow |grad L| to be as small as `gradient_norm`, the point is a
        critical one all the same if a step of Newton's method would not move it.

    Raises:
        TypeError: the problem is a vector field, or `start` holds something that is no parameter.
        ValueError: an argument is out of range; the trajectory has no final parameters, or is one
            of another field than the gradient; `start` is of another structure, or of other
            shapes, than the problem's parameters.

    >>> import gradflow as gf
    >>> import optax
    >>> problem = gf.Problem(optax.l2_loss, 1.0, 0.0)  # L(w) = w^2 / 2
    >>> flow = gf.solve(problem, t1=2.0, save=gf.Linear(count=5))
    >>> point = gf.polish(problem, flow)
    >>> point.type, point.heading_there, round(point.rate, 3)
    ('minimum', True, 1.0)
    """
    spec = checked(Polish, method=method, gradient_norm=gradient_norm, max_steps=max_steps)
    spec.check(problem)
    begin, time, travelled = _start(problem, start)
    with jax.default_matmul_precision(PRECISION):
        return _polished(problem, begin, time, travelled, spec, cancelled or (lambda: False))


def _start(problem: Problem, start: Any) -> tuple[PyTree, float, float]:
    """Where the search begins, when that is, and how far the flow has come."""
    if start is None:
        return problem.params, 0.0, 0.0
    time = 0.0
    if isinstance(start, Trajectory):
        if start.final_params is None:
            raise ValueError(
                "the trajectory has no final_params, as one that was read from disk; give the "
                "parameters themselves, which a run keeps in flow-final.npz"
            )
        field = start.attrs.get("field", "gradient")
        if field != "gradient":
            raise ValueError(
                f"the trajectory is one of the field {field!r}, which need not end where the "
                "gradient flow does; give one of the gradient flow, or parameters to start from"
            )
        start, time = start.final_params, start.final_time
    begin, _ = partition(start)
    if jax.tree.structure(begin) != jax.tree.structure(problem.params):
        raise ValueError(
            f"start has the structure {jax.tree.structure(begin)}, and the problem's parameters "
            f"have {jax.tree.structure(problem.params)}; give parameters like the problem's own"
        )
    given, own = ([leaf.shape for leaf in jax.tree.leaves(p)] for p in (begin, problem.params))
    if given != own:
        raise ValueError(
            f"start has leaves of the shapes {given}, and the problem's parameters have {own}; "
            "give parameters like the problem's own"
        )
    begin = jax.tree.map(lambda leaf: jnp.asarray(leaf, problem.dtype), begin)
    pairs = zip(jax.tree.leaves(begin), jax.tree.leaves(problem.params), strict=True)
    return begin, time, float(np.linalg.norm([distance(*pair) for pair in pairs]))


def _polished(
    problem: Problem,
    begin: PyTree,
    time: float,
    travelled: float,
    spec: Polish,
    cancelled: Callable[[], bool],
) -> CriticalPoint:
    x0, unravel = ravel_pytree(begin)
    landscape = Landscape(problem.bare(), problem.data, unravel)
    method = spec.method
    if method == "auto":
        method = "newton" if x0.size <= _DENSE else "newton-cg"
    x, steps, spent = x0, 0, 0
    if method in LIBRARY:
        # For half of the digits; values of the loss, from which these methods live, have no more.
        x, tried = LIBRARY[method](landscape, x, spec.gradient_norm**0.5, spec.max_steps)
        steps = int(tried)
        spent = steps * (1 + x.size if method == "levenberg-marquardt" else 1)
    dense = method == "newton" or (method == "levenberg-marquardt" and x0.size <= WHOLE)
    linear = Dense(landscape) if dense else ConjugateGradients(landscape)
    found = continuation(
        landscape, x, linear, spec.gradient_norm, spec.max_steps - steps, cancelled
    )
    x, here, at_start = found.x, found.look, look(landscape, x0)
    curved = curvature(landscape, x, here)
    spent += found.evaluations + 1 + curved.evaluations
    still = curved.left <= _ROUNDINGS * float(jnp.finfo(x.dtype).eps) * distance(x, 0)
    type_, reason = curved.type, found.stopped
    if found.receding and reason in ("", "rounding"):
        type_, reason = "at infinity", "at infinity"
    elif reason and not (reason == "rounding" and still):
        type_ = "not converged"
    moved = distance(x, x0)
    goes, when = None, None
    if type_ == curved.type:
        approach = Approach(problem, landscape, linear, x, curved, spec, cancelled)
        goes = approach.heading(x0, at_start)
        when = approach.t_infinity() if goes is not False and curved.index == 0 else None
        spent += approach.evaluations
    return CriticalPoint(
        params=problem.model(unravel(x)),
        loss=float(here.loss),
        gradient_norm=float(here.norm),
        type=type_,
        index=curved.index,
        flat=curved.flat,
        eigenvalues=curved.eigenvalues,
        residuals=curved.residuals,
        threshold=curved.threshold,
        distance=moved,
        relative_distance=moved / travelled if travelled else None,
        heading_there=goes,
        rate=None if when is None else when[1],
        t_infinity=None if when is None else time + when[0],
        method=method,
        steps=steps + found.steps,
        gradient_evaluations=spent,
        reason=reason,
    )
