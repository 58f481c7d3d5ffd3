"""Deep linear networks that start aligned with their task, where every mode learns alone.

Saxe, McClelland & Ganguli, "Exact solutions to the nonlinear dynamics of learning in deep linear
neural networks", ICLR 2014, arXiv 1312.6120. Inputs are white and targets linear in them, so that

    L = mean |y - W_D ... W_1 x|^2 / 2 = |U S V^T - W_D ... W_1|_F^2 / 2.

With W_1 = R_1 A V^T, W_l = R_l A R_(l-1)^T and W_D = U A R_(D-1)^T, the R_l having orthonormal
columns and A being diagonal, all layers stay so, and each entry a of A follows
a' = a^(D-1) (s - a^D). The strength of its mode is u = a^D: u' = D u^(2 - 2/D) (s - u).
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import reduce
from itertools import pairwise
from typing import Annotated, Literal, NamedTuple, cast

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float
from numpy.typing import ArrayLike
from pydantic import Field, ValidationInfo, field_validator

from ..analysis import Series, derived
from ..invariants import gram_change, relative_drift
from ..observables import Event, Observable, Part, Snapshot
from ..plotting import Figure, Line, Panel
from ..problem import Problem
from ..trajectory import Trajectory
from .checking import Special, bounded, recorded
from .claims import Claim
from .draws import orthonormal, sources
from .modes import Modes, SingularValues, room_for_modes
from .task import Task

Weights = tuple[Array, ...]  # W_1 to W_D
_FACTOR = 10  # of rtol, that every trajectory is held to


class Data(NamedTuple):
    """White inputs, and targets that are linear in them."""

    inputs: Float[Array, "n inputs"]
    targets: Float[Array, "n outputs"]


def loss(weights: Weights, data: Data) -> Float[Array, ""]:
    """mean |y - W_D ... W_1 x|^2 / 2."""
    outputs = reduce(lambda x, weight: x @ weight.T, weights, data.inputs)
    return jnp.mean(jnp.sum((outputs - data.targets) ** 2, axis=1)) / 2


def white_inputs(rng: np.random.Generator, samples: int, inputs: int) -> np.ndarray:
    """Inputs whose second moments are exactly the identity, shape ``(samples, inputs)``.

    >>> import numpy as np
    >>> from gradflow.tasks.deep_linear import white_inputs
    >>> x = white_inputs(np.random.default_rng(0), 8, 2)
    >>> np.abs(x.T @ x / 8).round(12).tolist()
    [[1.0, 0.0], [0.0, 1.0]]
    """
    return np.sqrt(samples) * orthonormal(rng, samples, inputs)


def aligned_weights(
    bases: Sequence[np.ndarray], entries: Float[np.ndarray, " modes"]
) -> tuple[np.ndarray, ...]:
    """W_1 to W_D for the diagonal `entries` of A; `bases` are V, R_1, ..., R_(D-1), U.

    >>> import numpy as np
    >>> from gradflow.tasks.deep_linear import aligned_weights
    >>> first, second = aligned_weights([np.eye(2), np.eye(3, 2), np.eye(2)], np.array([2.0, 1.0]))
    >>> (second @ first).tolist()
    [[4.0, 0.0], [0.0, 1.0]]
    """
    return tuple((after * entries) @ before.T for before, after in pairwise(bases))


def mode_strengths(s: ArrayLike, u0: float, depth: int, times: ArrayLike) -> np.ndarray:
    """The strengths u(t) of modes that start at `u0`, in closed form.

    With u = s x^D, time is a function of strength: s^(2 - 2/D) t = F(x) - F(x_0), where
    F' = 1 / (x^(D-1) (1 - x^D)) integrates to logarithms (`_elapsed`); its inverse is found
    to rounding. One layer has u = s + (u_0 - s) e^-t, two have the paper's
    u = s e^(2st) / (e^(2st) - 1 + s/u_0).

    Args:
        s: the strengths in the task, shape ``(modes,)``.
        u0: all strengths at t = 0, positive and below every `s`.
        depth: the number of layers D.
        times: shape ``(n,)``.

    Returns:
        The strengths, shape ``(n, modes)``.

    >>> from gradflow.tasks.deep_linear import mode_strengths
    >>> mode_strengths([3.0, 1.0], 0.01, 2, [0.0, 1.0, 10.0]).round(4).tolist()
    [[0.01, 0.01], [1.723, 0.0695], [3.0, 1.0]]
    """
    from scipy.optimize import brentq  # which takes a tenth of a second to import

    times = np.asarray(times, float)

    def one(strength: float, time: float) -> float:
        x0 = (u0 / strength) ** (1 / depth)
        goal = _elapsed(x0, depth) + strength ** (2 - 2 / depth) * time
        almost = 1 - np.finfo(float).epsneg
        if goal >= _elapsed(almost, depth):
            return strength
        rounding = 4 * np.finfo(float).eps
        x = brentq(lambda x: _elapsed(x, depth) - goal, x0, almost, xtol=1e-300, rtol=rounding)
        return strength * cast(float, x) ** depth

    return np.array([[one(strength, t) for strength in np.asarray(s, float)] for t in times])


def half_times(s: ArrayLike, u0: float, depth: int) -> np.ndarray:
    """When modes that start at `u0` have half of their strengths `s`, shape ``(modes,)``.

    >>> from gradflow.tasks.deep_linear import half_times, mode_strengths
    >>> (time,) = half_times([3.0], 0.01, 4)
    >>> mode_strengths([3.0], 0.01, 4, [time]).round(12).tolist()
    [[1.5]]
    """
    half, s = 0.5 ** (1 / depth), np.asarray(s, float)
    began = np.array([_elapsed((u0 / each) ** (1 / depth), depth) for each in s])
    return (_elapsed(half, depth) - began) / s ** (2 - 2 / depth)


def _elapsed(x: float, depth: int) -> float:
    """F(x), the integral of x^(1 - D) + x / (1 - x^D).

    The second by its poles, the roots of unity r: x / (1 - x^D) = sum_r r^2 / (r - x) / D, for
    D = 1 less 1, which takes away the first.
    """
    roots = np.exp(2j * np.pi * np.arange(depth) / depth)
    second = -np.sum(roots**2 * np.log(1 - x / roots)).real / depth
    if depth == 1:
        return second
    return second + (np.log(x) if depth == 2 else x ** (2 - depth) / (2 - depth))


def _product(weights: Weights) -> Float[Array, "outputs inputs"]:
    return reduce(lambda product, weight: weight @ product, weights)


def _strengths(s: Snapshot) -> Float[Array, " modes"]:
    return jnp.diagonal(_product(s.params))


def _aligned(s: Snapshot) -> tuple[Float[Array, "layers modes"], Float[Array, ""]]:
    """The diagonals of A layer by layer, and how far all layers are from being of that form.

    The bases are those of the start, where A is a multiple of the identity and V is the identity.
    """
    basis, entries, rest = jnp.eye(s.params[0].shape[1], dtype=s.params[0].dtype), [], []
    for now, then in zip(s.params, s.initial, strict=True):
        before, basis = basis, then @ basis
        basis = basis / jnp.linalg.norm(basis, axis=0)
        entries.append(jnp.sum(basis * (now @ before), axis=0))
        rest.append(jnp.sum((now - (basis * entries[-1]) @ before.T) ** 2))
    return jnp.stack(entries), jnp.sqrt(jnp.sum(jnp.stack(rest)))


def _balance(s: Snapshot) -> Array:
    """The largest relative drift of W_(l+1)^T W_(l+1) - W_l W_l^T (Arora, Cohen, Hazan 2018)."""
    grams = [
        (gram_change(now, then), gram_change(now.T, then.T))
        for now, then in zip(s.params, s.initial, strict=True)
    ]
    drifts = [relative_drift(after[0], before[1]) for before, after in pairwise(grams)]
    return jnp.max(jnp.stack([jnp.zeros((), s.params[0].dtype), *drifts]))


class DeepLinear(Task):
    """A deep linear network that starts aligned with its task: the flow in closed form.

    U and V are the identity, which for white inputs is no restriction but a choice of axes. Draws
    differ in the inputs and in the bases R_l of the hidden layers.

    Attributes:
        depth: layers D.
        strengths: the singular values S of the task, descending: inputs and outputs are as many.
        width: units of each hidden layer; at least as many as there are modes.
        samples: inputs; at least as many as there are modes.
        initial_strength: of every mode at t = 0; below half the smallest of `strengths`.

    >>> import gradflow as gf
    >>> import jax
    >>> task = gf.tasks.DeepLinear(depth=3, strengths=(2.0, 1.0), initial_strength=0.125)
    >>> problem = task.build(jax.random.key(0))
    >>> [weight.shape for weight in problem.params]
    [(16, 2), (16, 16), (2, 16)]
    >>> round(float(problem.loss(problem.params, problem.data)), 6)
    2.140625
    """

    kind: Literal["deep-linear"] = "deep-linear"
    depth: Annotated[int, Field(ge=1, le=100)] = 2
    strengths: SingularValues = (8.0, 4.0, 2.0, 1.0)
    width: Annotated[int, Field(ge=1, lt=2**31)] = 16
    samples: Annotated[int, Field(ge=1, lt=2**31)] = 32
    initial_strength: Annotated[float, Field(gt=0)] = 1e-3

    _room = field_validator("width", "samples")(room_for_modes)

    @field_validator("initial_strength")
    @classmethod
    def _below_all(cls, initial: float, fields: ValidationInfo) -> float:
        half = min(fields.data.get("strengths", (np.inf,))) / 2
        if initial >= half:
            raise ValueError(f"got {initial:g}; allowed: below {half:g}, half the least strength")
        return initial

    @property
    def modes(self) -> Modes:
        """The modes of the task."""
        return Modes(self.strengths, _strengths)

    @property
    def observables(self) -> tuple[Observable, ...]:
        """What is recorded."""
        axes = (("layer", tuple(range(1, self.depth + 1))), ("mode", self.modes.labels))
        entry = Part("entry", axes, "entry of A")
        rest = Part("misalignment", label="distance from the aligned form")
        return (
            self.modes.observable,
            Observable("aligned", _aligned, parts=(entry, rest)),
            Observable("balance", _balance, label=r"drift of $W_2^\top W_2 - W_1 W_1^\top$"),
        )

    @property
    def events(self) -> tuple[Event, ...]:
        """Where each mode is learnt."""
        return self.modes.events

    @property
    def figures(self) -> tuple[Figure, ...]:
        """The modes, the loss and the distance, each beside the closed form."""
        loss = Panel(
            (
                Line("loss"),
                Line(self._exact_loss, label="closed form", colour="sky", dash="dashed"),
            ),
            ylabel="loss",
            yscale="log",
        )
        distance = Panel(
            (Line(self.distance),),
            ylabel="distance to the closed form",
            xscale="log",
            yscale="log",
        )
        return (
            self.modes.figure(
                lambda trajectory: self.exact(trajectory.times("strength")),
                "closed form",
                "The strengths of the modes, and over them the closed form.",
            ),
            Figure.both_time_scales("loss", loss, "The loss, and over it the closed form."),
            Figure(
                "distance",
                (distance,),
                "The distance of all weights from the closed form, relative to the distance "
                "travelled.",
            ),
        )

    def build(self, key: Array, data_key: Array | None = None) -> Problem:
        """The problem for one draw of the R_l from `key`, and of inputs from `data_key`."""
        data_rng, rng = sources(key, data_key)
        modes = len(self.strengths)
        inputs = white_inputs(data_rng, self.samples, modes)
        hidden = [orthonormal(rng, self.width, modes) for _ in range(self.depth - 1)]
        entries = np.full(modes, self.initial_strength ** (1 / self.depth))
        weights = aligned_weights([np.eye(modes), *hidden, np.eye(modes)], entries)
        data = Data(*map(jax.device_put, (inputs, inputs * np.array(self.strengths))))
        return Problem(
            loss,
            jax.device_put(weights),
            data,
            observables=self.observables,
            events=self.events,
        )

    def exact(self, times: ArrayLike) -> np.ndarray:
        """The strengths in closed form, shape ``(n, modes)``."""
        return mode_strengths(self.strengths, self.initial_strength, self.depth, times)

    def distance(self, trajectory: Trajectory) -> tuple[np.ndarray, np.ndarray]:
        """|W - closed form|_2 / |closed form - W(0)|_2 over all weights.

        The part of the weights that is of the aligned form and the rest are orthogonal.

        Returns:
            The times t > 0, shape ``(n,)``, and the distances then, of shape ``(n,)`` or, of an
            ensemble, ``(n, seeds)``.

        Raises:
            KeyError: what it is made of was not recorded.
        """
        times = trajectory.times("entry")
        keep = times > 0
        entries, rest = trajectory["entry"][keep], trajectory["misalignment"][keep]
        exact, start = (
            u ** (1 / self.depth) for u in (self.exact(times[keep]), self.initial_strength)
        )
        seeds = (1,) * (rest.ndim - 1)
        off = entries - exact.reshape(len(exact), 1, -1, *seeds)
        travelled = self.depth * np.sum((exact - start) ** 2, axis=1)
        square = np.sum(off**2, axis=(1, 2)) + rest**2
        return times[keep], np.sqrt(square / travelled.reshape(-1, *seeds))

    def _exact_loss(self, trajectory: Trajectory) -> tuple[np.ndarray, np.ndarray]:
        times = trajectory.times("loss")
        return times, np.sum((np.array(self.strengths) - self.exact(times)) ** 2, axis=1) / 2

    def phases(self, trajectory: Trajectory) -> dict[str, float | None]:
        """T1, T2 and so on, at which each mode has half of its strength."""
        return self.modes.phases(trajectory)

    def invariants(self, trajectory: Trajectory) -> dict[str, float]:
        """How far the layers drift out of balance, relative, at the worst."""
        return {"balance": float(trajectory["balance"].max(initial=0.0))}

    def claims(self, trajectory: Trajectory) -> tuple[Claim, ...]:
        """The closed form, the order of the modes and the balance of the layers."""
        closed, drift = "Saxe et al. 2014", "worst drift / rtol"
        rows = [
            Special("the flow is the closed form", closed, "worst distance / rtol", self._follows),
            Special("T_k are those of the closed form", closed, "worst error", self._on_time),
        ]
        if self.depth > 1:
            ordered = self.modes.ordered
            rows += [
                Special("stronger modes are learnt first", closed, "least ratio", ordered),
                Special("layers stay balanced", "Arora et al. 2018", drift, _balanced),
            ]
        return tuple(row(trajectory) for row in rows)

    def _follows(self, trajectory: Trajectory, claim: Claim) -> Claim:
        distance = Series.of(*self.distance(trajectory), None)
        return bounded(claim, _per_rtol(distance, trajectory), high=_FACTOR)

    def _on_time(self, trajectory: Trajectory, claim: Claim) -> Claim:
        found = self.modes.times(trajectory)
        exact = half_times(self.strengths, self.initial_strength, self.depth)
        return claim._replace(
            value=float(np.max(np.abs(found / exact - 1))),
            interval=(float(found.min()), float(found.max())),
            note="no bound",
        )


def _balanced(trajectory: Trajectory, claim: Claim) -> Claim:
    return bounded(claim, _per_rtol(recorded(trajectory, "balance"), trajectory), high=_FACTOR)


def _per_rtol(series: Series, trajectory: Trajectory) -> Series:
    rtol = trajectory.attrs["rtol"]
    return derived(lambda x: x / rtol, series)
