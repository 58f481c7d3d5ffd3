"""Matrix factorisation from a small start: the rank is revealed step by step.

L = |U V^T - M|_F^2 / 2 with M = sum_k s_k l_k r_k^T, and U, V of small Gaussian entries. While
mode k is small, p = U^T l_k and q = V^T r_k obey p' = s q, q' = s p, so that its strength p.q
grows as |p + q|^2 e^(2st) / 4, and saturates as that of two aligned layers does (see
`deep_linear`). Modes learnt before it keep p + q small along their own directions in the space of
factors; what is orthogonal to them counts. Between one mode and the next the flow passes a saddle,
where the product is the best approximation of M of its rank and L = sum_(j > k) s_j^2 / 2. All this
is exact in the limit of a vanishing start, with errors of powers of its size.

Gidel, Bach & Lacoste-Julien, "Implicit regularization of discrete gradient dynamics in linear
neural networks", NeurIPS 2019, arXiv 1904.13262; Arora, Cohen, Hu & Luo, "Implicit regularization
in deep matrix factorization", NeurIPS 2019, arXiv 1905.13655; Jin, Li, Lyu, Du & Lee,
"Understanding incremental learning of gradient descent", ICML 2023, arXiv 2301.11500.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Annotated, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float
from pydantic import Field, ValidationInfo, field_validator

from .._linalg import positive
from ..analysis import Series
from ..invariants import gram_change, relative_drift
from ..observables import Event, Observable, Snapshot
from ..plotting import Figure, Line, Panel, Reference
from ..problem import Problem
from ..save_times import Explicit
from ..trajectory import Trajectory
from .checking import Special, UnansweredError, bounded, recorded
from .claims import Claim
from .draws import orthonormal, sources
from .modes import Modes, SingularValues, room_for_modes
from .task import Task

_START = Explicit(times=(0.0,))
# What the claims allow for a start that has not quite vanished: of T_k and of a plateau's loss,
# relative, and of the next singular value over the last that was learnt.
_LATE, _OFF_PLATEAU, _NEXT_RANK = 0.01, 0.01, 0.05


class Factors(NamedTuple):
    """U and V, of whose rows the products are the entries."""

    u: Float[Array, "size width"]
    v: Float[Array, "size width"]

    @property
    def product(self) -> Float[Array, "size size"]:
        """U V^T."""
        return self.u @ self.v.T


class Data(NamedTuple):
    """M, and its singular vectors as columns."""

    matrix: Float[Array, "size size"]
    left: Float[Array, "size modes"]
    right: Float[Array, "size modes"]


def loss(factors: Factors, data: Data) -> Float[Array, ""]:
    """|U V^T - M|_F^2 / 2."""
    return jnp.sum((factors.product - data.matrix) ** 2) / 2


def _strengths(s: Snapshot) -> Float[Array, " modes"]:
    return jnp.sum((s.params.u.T @ s.data.left) * (s.params.v.T @ s.data.right), axis=0)


def _initial_strengths(s: Snapshot) -> Float[Array, " modes"]:
    """|p + q|^2 / 4 of each mode, orthogonal to p + q of all modes before it."""
    growing = s.params.u.T @ s.data.left + s.params.v.T @ s.data.right
    # Gram and Schmidt's, whose triangle has what is left of each column on its diagonal.
    return jnp.diagonal(jnp.linalg.qr(growing, mode="r")) ** 2 / 4


def _singular_values(s: Snapshot) -> Float[Array, " size"]:
    return jnp.linalg.svd(s.params.product, compute_uv=False)


def _effective_rank(s: Snapshot) -> Float[Array, ""]:
    """The exponential of the entropy of the singular values (Roy & Vetterli 2007)."""
    values = _singular_values(s)
    share = values / positive(jnp.sum(values))
    return jnp.exp(jnp.sum(jax.scipy.special.entr(share)))


def _balance(s: Snapshot) -> Float[Array, ""]:
    now, then = s.params, s.initial
    return relative_drift(gram_change(now.u, then.u), gram_change(now.v, then.v))


class MatrixFactorisation(Task):
    """Factorisation of a matrix from a small random start.

    Attributes:
        size: rows and columns of the matrix M.
        strengths: its singular values that are not 0, descending; at most `size`.
        width: columns of U and V; at least as many as there are strengths.
        initial_scale: standard deviation of the entries of U and V at t = 0.

    >>> import gradflow as gf
    >>> import jax
    >>> task = gf.tasks.MatrixFactorisation(size=6, strengths=(3.0, 1.0), width=6)
    >>> problem = task.build(jax.random.key(0))
    >>> problem.params.u.shape, round(float(problem.loss(problem.params, problem.data)), 4)
    ((6, 6), 5.0)
    """

    kind: Literal["matrix-factorisation"] = "matrix-factorisation"
    size: Annotated[int, Field(ge=1, lt=2**31)] = 12
    strengths: SingularValues = (8.0, 4.0, 2.0, 1.0)
    width: Annotated[int, Field(ge=1, lt=2**31)] = 12
    initial_scale: Annotated[float, Field(gt=0)] = 1e-5

    @field_validator("strengths")
    @classmethod
    def _not_more_than_rows(
        cls, strengths: tuple[float, ...], fields: ValidationInfo
    ) -> tuple[float, ...]:
        most = fields.data.get("size", np.inf)  # where it is refused itself
        if len(strengths) > most:
            raise ValueError(f"got {len(strengths)} values; allowed: at most size = {most}")
        return strengths

    _room = field_validator("width")(room_for_modes)

    @property
    def modes(self) -> Modes:
        """The modes of M."""
        return Modes(self.strengths, _strengths)

    @property
    def observables(self) -> tuple[Observable, ...]:
        """What is recorded."""
        modes, ranks = (("mode", self.modes.labels),), (("rank", tuple(range(1, self.size + 1))),)
        return (
            self.modes.observable,
            Observable(
                "initial_strength",
                _initial_strengths,
                modes,
                "what each mode grows from",
                save=_START,
            ),
            Observable("singular_value", _singular_values, ranks, "singular value"),
            Observable("effective_rank", _effective_rank, label="effective rank"),
            Observable("balance", _balance, label=r"drift of $U^\top U - V^\top V$"),
        )

    @property
    def events(self) -> tuple[Event, ...]:
        """Where each mode is learnt."""
        return self.modes.events

    @property
    def plateaus(self) -> np.ndarray:
        """The loss once 0, 1 and so on modes are learnt, shape ``(modes + 1,)``."""
        squares = np.array(self.strengths) ** 2 / 2
        return np.append(np.cumsum(squares[::-1])[::-1], 0.0)

    @property
    def figures(self) -> tuple[Figure, ...]:
        """The modes, the plateaus of the loss, and the rank."""
        named = ["plateaus"] + [""] * (len(self.strengths) - 1)
        plateaus = tuple(
            Reference(float(value), label=name, dash="dashed")
            for value, name in zip(self.plateaus, named, strict=False)
        )
        values = tuple(
            Line("singular_value", {"rank": k}, f"$\\sigma_{k}$", 1 - (k - 1) / len(self.strengths))
            for k in range(1, min(len(self.strengths) + 1, self.size) + 1)
        )
        return (
            self.modes.figure(
                self.predicted,
                "limit of a small start",
                "The strengths of the modes, and over them their growth from a vanishing start.",
            ),
            Figure.both_time_scales(
                "loss",
                Panel((Line("loss"),), yscale="log", references=plateaus),
                "The loss, and the half sums of squares of the singular values not yet learnt.",
            ),
            Figure(
                "rank",
                (
                    Panel(values, ylabel="singular values of $UV^\\top$", yscale="log"),
                    Panel((Line("effective_rank"),), ylabel="effective rank"),
                ),
                "The leading singular values of the product (a), and its effective rank (b).",
            ),
        )

    def build(self, key: Array, data_key: Array | None = None) -> Problem:
        """The problem for one draw of U and V from `key`, and of M from `data_key`."""
        data_rng, rng = sources(key, data_key)
        left, right = (orthonormal(data_rng, self.size, len(self.strengths)) for _ in range(2))
        matrix = (left * np.array(self.strengths)) @ right.T
        start = self.initial_scale * rng.normal(size=(2, self.size, self.width))
        return Problem(
            loss,
            Factors(*map(jax.device_put, start)),
            Data(*map(jax.device_put, (matrix, left, right))),
            observables=self.observables,
            events=self.events,
        )

    def predicted(self, trajectory: Trajectory) -> np.ndarray:
        """The strengths in the limit of a small start, shape ``(n, modes)``; seeds come last.

        Raises:
            KeyError: the start was not recorded.
        """
        (start,) = trajectory["initial_strength"]
        s = np.array(self.strengths).reshape(-1, *(1,) * (start.ndim - 1))
        decay = np.exp(-2 * np.multiply.outer(trajectory.times("strength"), s))
        return s / (1 + (s / start - 1) * decay)

    def phases(self, trajectory: Trajectory) -> dict[str, float | None]:
        """T1, T2 and so on, at which each mode has half of its strength."""
        return self.modes.phases(trajectory)

    def invariants(self, trajectory: Trajectory) -> dict[str, float]:
        """How far U^T U - V^T V drifts, relative, at the worst."""
        return {"balance": float(trajectory["balance"].max(initial=0.0))}

    def claims(self, trajectory: Trajectory) -> tuple[Claim, ...]:
        """When modes are learnt, and what loss and rank are in between."""
        rows = (
            Special(
                "stronger modes are learnt first",
                "Gidel et al. 2019",
                "least ratio",
                self.modes.ordered,
            ),
            Special(
                f"T_k = log(s_k/u_k - 1) / 2 s_k to {100 * _LATE:g} %",
                "Gidel et al. 2019",
                "worst error",
                self._on_time,
            ),
            Special(
                f"plateaus at sum s_j^2/2, j > k, to {100 * _OFF_PLATEAU:g} %",
                "Jin et al. 2023",
                "worst error",
                self._plateaus,
            ),
            Special(
                "rank k on plateau k", "Arora et al. 2019", "largest sigma_k+1/sigma_k", self._ranks
            ),
        )
        return tuple(row(trajectory) for row in rows)

    def _on_time(self, trajectory: Trajectory, claim: Claim) -> Claim:
        found, s = self.modes.times(trajectory), np.array(self.strengths)
        (start,) = trajectory["initial_strength"]
        error = float(np.max(np.abs(found / (np.log(s / start - 1) / (2 * s)) - 1)))
        return claim._replace(
            value=error, held=error < _LATE, interval=(float(found.min()), float(found.max()))
        )

    def _at_plateaus(self, trajectory: Trajectory) -> np.ndarray:
        """Of plateaus 1, 2 and so on but the last the time at which the flow is slowest."""
        learnt = self.modes.times(trajectory)
        speed = recorded(trajectory, "grad_norm")
        slowest = []
        for k, (start, end) in enumerate(pairwise(learnt), 1):
            between = speed.within(start, end)
            if len(between.times) < 5:
                raise UnansweredError(f"too few save times between T{k} and T{k + 1}")
            slowest.append(between.times[np.argmin(between.values)])
        if not slowest:
            raise UnansweredError("there is one mode")
        return np.array(slowest)

    def _plateaus(self, trajectory: Trajectory, claim: Claim) -> Claim:
        times = self._at_plateaus(trajectory)
        loss = recorded(trajectory, "loss")
        off = np.array([loss.at(time)[0] for time in times]) / self.plateaus[1:-1] - 1
        return bounded(claim, Series.of(times, np.abs(off), None), high=_OFF_PLATEAU)

    def _ranks(self, trajectory: Trajectory, claim: Claim) -> Claim:
        times = self._at_plateaus(trajectory)
        ratios = [
            recorded(trajectory, "singular_value", rank=k + 1).at(time)[0]
            / recorded(trajectory, "singular_value", rank=k).at(time)[0]
            for k, time in enumerate(times, 1)
        ]
        return bounded(claim, Series.of(times, np.array(ratios), None), high=_NEXT_RANK)
