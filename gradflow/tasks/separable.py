"""Logistic regression on separable data: the direction of the widest margin, at 1 / log t.

L = mean log(1 + exp(-z_i.w)), z_i = y_i x_i, has no minimiser where some w has every margin z_i.w
positive. Let w* be the least vector with z_i.w >= 1 for all n samples, as of a support vector
machine without bias: w* = sum_i a_i z_i, a_i >= 0, and 1 / |w*| is the widest margin. Then

    w(t) = w* log t + v + o(1),    z_i.v = -log(n a_i) for all support vectors,

so that w / |w| tends to w* / |w*| as 1 / log t, and t L to sum_i a_i = |w*|^2. Orthogonally to the
support vectors v depends on the start. In the limit what is left falls as t^-r: linearised, the
support vectors relax as t^-m with the eigenvalues m of sum_i a_i z_i z_i^T, of which w* has 1, and
a sample of margin c > 1 matters as t^(1 - c).

Soudry, Hoffer, Nacson, Gunasekar & Srebro, "The implicit bias of gradient descent on separable
data", JMLR 2018, arXiv 1710.10345, Theorems 3 and 4 (of the sum over samples, where there is no n).
"""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float
from pydantic import Field

from .._linalg import positive
from ..analysis import Series, derived, log_slope
from ..observables import Observable, Snapshot
from ..plotting import Figure, Line, Panel
from ..problem import Problem
from ..save_times import Explicit
from ..trajectory import Trajectory
from .checking import Special, UnansweredError, bounded, recorded
from .claims import Claim
from .draws import sources
from .task import Task

_START = Explicit(times=(0.0,))
# What the claims allow at late times, relative.
_OFF = 0.05
_LATE = 100.0  # the late times are the last two decades


class Machine(NamedTuple):
    """A support vector machine with a hard margin and without bias.

    Attributes:
        weight: w*.
        multipliers: a_i of each sample; 0 but for support vectors.
    """

    weight: Float[np.ndarray, " dimension"]
    multipliers: Float[np.ndarray, " n"]


def machine(signed: Float[np.ndarray, "n dimension"]) -> Machine:
    """The least w with z_i.w >= 1 for every row z_i.

    By Lawson & Hanson's reduction of least distance programming to non-negative least squares
    ("Solving Least Squares Problems", 1974, chapter 23), whose active sets end at the solution.

    Raises:
        ValueError: there is no such w.

    >>> import numpy as np
    >>> from gradflow.tasks.separable import machine
    >>> found = machine(np.array([[1.0, 1.0], [1.0, -1.0], [3.0, 0.5]]))
    >>> abs(found.weight).round(6).tolist(), found.multipliers.round(6).tolist()
    ([1.0, 0.0], [0.5, 0.5, 0.0])
    """
    from scipy.optimize import nnls  # which takes a tenth of a second to import

    rows = np.vstack([signed.T, np.ones(len(signed))])
    goal = np.append(np.zeros(signed.shape[1]), 1.0)
    multipliers, distance = nnls(rows, goal)
    if distance < 1e-10:
        raise ValueError("the samples are not separable by a plane through the origin")
    residual = goal - rows @ multipliers
    return Machine(-residual[:-1] / residual[-1], multipliers / residual[-1])


class Data(NamedTuple):
    """The samples with their signs, and what is known of the flow at late times.

    Attributes:
        signed: z_i = y_i x_i.
        machine: w*.
        offset: v, of which only the part in the span of the support vectors.
        span: the projection onto that span.
        rate: r, of the relaxation to w* log t + v.
    """

    signed: Float[Array, "n dimension"]
    machine: Float[Array, " dimension"]
    offset: Float[Array, " dimension"]
    span: Float[Array, "dimension dimension"]
    rate: Float[Array, ""]


def sample_loss(weight: Float[Array, " dimension"], data: Data) -> Float[Array, " n"]:
    """log(1 + exp(-z_i.w))."""
    return jax.nn.softplus(-(data.signed @ weight))


def _asymptote(s: Snapshot) -> Float[Array, " dimension"]:
    """w* log t + v; what v depends on the start is that of the moment. NaN until t = 1."""
    beyond = s.params - s.data.span @ s.params
    limit = s.data.machine * jnp.log(positive(s.time)) + s.data.offset + beyond
    return jnp.where(s.time > 1, limit, jnp.nan)


def _gap(weight: Array, data: Data) -> Float[Array, ""]:
    """|w / |w| - w* / |w*||."""
    norm, largest = jnp.linalg.norm(weight), jnp.linalg.norm(data.machine)
    return jnp.linalg.norm(weight / positive(norm) - data.machine / largest)


def _direction_gap(s: Snapshot) -> Array:
    return _gap(s.params, s.data)


def _asymptotic_gap(s: Snapshot) -> Array:
    return _gap(_asymptote(s), s.data)


def _residual(s: Snapshot) -> Array:
    return jnp.linalg.norm(s.params - _asymptote(s))


def _norm(s: Snapshot) -> Array:
    return jnp.linalg.norm(s.params)


def _margin(s: Snapshot) -> Array:
    return jnp.min(s.data.signed @ s.params) / positive(_norm(s))


def _widest_margin(s: Snapshot) -> Array:
    return 1 / jnp.linalg.norm(s.data.machine)


def _rate(s: Snapshot) -> Array:
    return s.data.rate


OBSERVABLES = (
    Observable("norm", _norm, label="norm $|w|$"),
    Observable("margin", _margin, label="smallest margin over $|w|$"),
    Observable("direction_gap", _direction_gap, label="distance to the max-margin direction"),
    Observable("asymptotic_gap", _asymptotic_gap, label="its asymptote"),
    Observable("residual", _residual, label="distance to the asymptote"),
    Observable("widest_margin", _widest_margin, label="widest margin", save=_START),
    Observable("relaxation_rate", _rate, label="exponent of the relaxation", save=_START),
)


def _squared_norm(trajectory: Trajectory) -> np.ndarray:
    """|w*|^2, of an ensemble of every seed."""
    return trajectory["widest_margin"][0] ** -2.0


def _late_loss(trajectory: Trajectory) -> tuple[np.ndarray, np.ndarray]:
    times = trajectory.times("loss")[1:]
    return times, np.multiply.outer(1 / times, _squared_norm(trajectory))


def _widest(trajectory: Trajectory) -> tuple[np.ndarray, np.ndarray]:
    margin = trajectory["margin"]
    return trajectory.times("margin"), np.broadcast_to(trajectory["widest_margin"], margin.shape)


FIGURES = (
    Figure(
        "direction",
        (
            Panel(
                (
                    Line("direction_gap", label=r"$|w/|w| - w^\ast/|w^\ast||$"),
                    Line("asymptotic_gap", label=r"that of $w^\ast \log t + v$", dash="dashed"),
                ),
                ylabel="distance to the SVM's direction",
                xscale="log",
                yscale="log",
            ),
            Panel(
                (
                    Line("margin", label="smallest margin of $w/|w|$"),
                    Line(_widest, label="the SVM's", dash="dashed"),
                ),
                ylabel="margin",
                xscale="log",
            ),
        ),
        "How far the direction of w is from that of the support vector machine (a), and how wide a "
        "margin it leaves (b).",
    ),
    Figure(
        "loss",
        (
            Panel(
                (
                    Line("loss", label="loss"),
                    Line(_late_loss, label=r"$|w^\ast|^2 / t$", dash="dashed"),
                ),
                ylabel="loss",
                xscale="log",
                yscale="log",
            ),
            Panel(
                (Line("residual"),),
                ylabel=r"$|w - w^\ast \log t - v|$",
                xscale="log",
                yscale="log",
            ),
        ),
        "The loss (a), and the distance of w from its asymptote (b).",
    ),
)


class Separable(Task):
    """Logistic regression without bias on two classes of Gaussian samples that a plane separates.

    Attributes:
        samples: n.
        dimension: of the samples.
        gap: samples are moved away from a random plane by so much, each to its own side.
        slack: samples that are no support vectors are moved on, along w*, until their margins are
            1 + slack times the widest or more. They matter until about t^-slack is small, which
            for 0 takes longer than can be waited for.

    >>> import gradflow as gf
    >>> import jax
    >>> problem = gf.tasks.Separable(samples=10, dimension=2).build(jax.random.key(0))
    >>> margins = problem.data.signed @ problem.data.machine
    >>> round(float(margins.min()), 6)
    1.0
    """

    observables: ClassVar = OBSERVABLES
    figures: ClassVar = FIGURES

    kind: Literal["separable"] = "separable"
    samples: Annotated[int, Field(ge=1, lt=2**31)] = 20
    dimension: Annotated[int, Field(ge=1, lt=2**31)] = 3
    gap: Annotated[float, Field(gt=0)] = 0.2
    slack: Annotated[float, Field(ge=0)] = 1.0

    def build(self, key: Array, data_key: Array | None = None) -> Problem:
        """The problem for one draw of the start from `key`, and of the samples from `data_key`."""
        data_rng, rng = sources(key, data_key)
        inputs = data_rng.normal(size=(self.samples, self.dimension))
        normal = data_rng.normal(size=self.dimension)
        normal /= np.linalg.norm(normal)
        sides = np.sign(inputs @ normal)
        signed = sides[:, None] * inputs + self.gap * normal
        weight, multipliers = machine(signed)
        support = multipliers > 0
        short = np.maximum(1 + self.slack - signed @ weight, 0) * ~support
        signed += np.outer(short, weight / (weight @ weight))
        others = np.min((signed @ weight)[~support], initial=np.inf)
        vectors, shares = signed[support], multipliers[support]  # independent, as `nnls` has them
        relaxation = np.linalg.svd(np.sqrt(shares)[:, None] * vectors, compute_uv=False)[-1] ** 2
        inverse = np.linalg.pinv(vectors)
        offset = inverse @ -np.log(self.samples * shares)
        rate = np.array(min(1.0, others - 1, relaxation))
        data = (signed, weight, offset, inverse @ vectors, rate)
        return Problem(
            params=jax.device_put(rng.normal(size=self.dimension)),
            data=Data(*map(jax.device_put, data)),
            sample_loss=sample_loss,
            observables=self.observables,
        )

    def claims(self, trajectory: Trajectory) -> tuple[Claim, ...]:
        """Where the direction and the loss tend to, and how fast."""
        return tuple(row(trajectory) for row in _ROWS)


def _late(trajectory: Trajectory, *names: str) -> tuple[Series, ...]:
    """Recorded variables at the late times, if these are beyond t = 1."""
    end = trajectory.final_time
    if end <= _LATE:
        raise UnansweredError(f"t = {end:.3g} is not beyond {_LATE:g}")
    return tuple(recorded(trajectory, name).within(end / _LATE, end) for name in names)


def _as_predicted(trajectory: Trajectory, claim: Claim) -> Claim:
    ratio = derived(lambda x, y: x / y, *_late(trajectory, "direction_gap", "asymptotic_gap"))
    return bounded(claim, ratio, 1 - _OFF, 1 + _OFF)


def _constant(trajectory: Trajectory, claim: Claim) -> Claim:
    (gap,) = _late(trajectory, "direction_gap")
    log = Series(gap.times, np.log(gap.times), np.zeros_like(gap.times), certified=True)
    return bounded(claim, derived(lambda x, y: x * y, gap, log), report="end")


def _loss_rate(trajectory: Trajectory, claim: Claim) -> Claim:
    (loss,) = _late(trajectory, "loss")
    scale = loss.times / _squared_norm(trajectory)
    scaled = loss._replace(values=loss.values * scale, errors=loss.errors * scale)
    return bounded(claim, scaled, 1 - _OFF, 1 + _OFF)


def _vanishes(trajectory: Trajectory, claim: Claim) -> Claim:
    (residual,) = _late(trajectory, "residual")
    falls = log_slope(residual)[0].value < 0
    return bounded(claim, residual, report="end")._replace(held=falls, note="")


def _relaxes(trajectory: Trajectory, claim: Claim) -> Claim:
    (residual,) = _late(trajectory, "residual")
    (rate,) = trajectory["relaxation_rate"]
    slope, error = log_slope(residual)
    return claim._replace(
        value=-slope.value / rate,
        error=error / rate if residual.certified else None,
        interval=(float(residual.times[0]), float(residual.times[-1])),
        note="no bound",
    )


def _not_wider(trajectory: Trajectory, claim: Claim) -> Claim:
    share = 1 / float(trajectory["widest_margin"][0])
    margin = derived(lambda x: x * share, recorded(trajectory, "margin"))
    return bounded(claim, margin, high=1.0, report="end")


_SOURCE = "Soudry et al. 2018"
_ROWS = (
    Special("|w/|w| - w*/|w*|| = C / log t", _SOURCE, "C", _constant),
    Special("with C of the support vectors, to 5 %", _SOURCE, "worst ratio", _as_predicted),
    Special("t L = |w*|^2 to 5 %", _SOURCE, "worst ratio", _loss_rate),
    Special("w - w* log t - v tends to 0", _SOURCE, "norm at the end", _vanishes),
    Special("as t^-r of the linearised flow", "", "exponent / r", _relaxes),
    Special("no margin is wider than the SVM's", _SOURCE, "share at the end", _not_wider),
)
