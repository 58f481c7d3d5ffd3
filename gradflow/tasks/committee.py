"""Soft committee machines on infinitely many Gaussian inputs: a plateau, then specialisation.

A student sum_i g(J_i.x) learns a teacher sum_n g(B_n.x) of as many units K, B_n orthonormal,
g(z) = erf(z / sqrt 2), x Gaussian of unit variance. With Q = J J^T, R = J B^T and T = B B^T half
the mean squared error is in closed form

    L = (1 / pi) (sum_ik arcsin(Q_ik / sqrt((1 + Q_ii)(1 + Q_kk)))
                  + the same of T - 2 sum_in arcsin(R_in / sqrt((1 + Q_ii)(1 + T_nn)))),

and its flow is online learning at a vanishing learning rate. From a small start all units come
close to one and the same vector, the saddle Q_ik = 1 / (2K - 1), R_in = 1 / sqrt(K (2K - 1)),
L = (K / pi) (pi / 6 - K arcsin(1 / 2K)), which they leave at the rate
2K / (pi sqrt(2K - 1) (2K + 1)^(3/2)), each for a teacher unit of its own.

Saad & Solla, "Exact solution for on-line learning in multilayer neural networks", Phys. Rev. Lett.
74, 4337 (1995), and "On-line learning in soft committee machines", Phys. Rev. E 52, 4225 (1995).
"""

from __future__ import annotations

import math
from itertools import product
from typing import Annotated, ClassVar, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float
from pydantic import Field, ValidationInfo, field_validator

from ..analysis import Series, positive_since, slope
from ..observables import Event, Observable, Snapshot
from ..plotting import Figure, Line, Panel, Reference
from ..problem import Problem
from ..trajectory import Trajectory
from .checking import Special, UnansweredError, recorded
from .claims import Claim
from .draws import orthonormal, sources
from .task import Task

_OFF, _OFF_RATE = 0.01, 0.05  # what the claims allow, relative
_LEAVING = 0.1  # of the overlap R: until there units leave the saddle exponentially


class Saddle(NamedTuple):
    """The saddle at which all K units of the student are one and the same.

    Attributes:
        norm: every Q_ik.
        overlap: every R_in.
        loss: L.
        rate: of the exponential escape.

    >>> from gradflow.tasks.committee import Saddle
    >>> [round(value, 4) for value in Saddle.of(2)]
    [0.3333, 0.4082, 0.0116, 0.0657]
    """

    norm: float
    overlap: float
    loss: float
    rate: float

    @classmethod
    def of(cls, units: int) -> Saddle:
        """The saddle of K = `units`."""
        k = float(units)
        return cls(
            1 / (2 * k - 1),
            1 / math.sqrt(k * (2 * k - 1)),
            k / math.pi * (math.pi / 6 - k * math.asin(1 / (2 * k))),
            2 * k / (math.pi * math.sqrt(2 * k - 1) * (2 * k + 1) ** 1.5),
        )


class Data(NamedTuple):
    """The teacher, of which a row is B_n."""

    teacher: Float[Array, "units inputs"]


def _angles(one: Array, other: Array) -> Float[Array, ""]:
    """sum_ik arcsin(J_i.B_k / sqrt((1 + |J_i|^2)(1 + |B_k|^2)))."""
    norms = jnp.sqrt(1 + jnp.sum(one**2, axis=1)), jnp.sqrt(1 + jnp.sum(other**2, axis=1))
    return jnp.sum(jnp.arcsin(one @ other.T / jnp.outer(*norms)))


def loss(student: Float[Array, "units inputs"], data: Data) -> Float[Array, ""]:
    """Half the mean squared difference of the outputs, over all Gaussian inputs."""
    teacher = data.teacher
    total = _angles(student, student) + _angles(teacher, teacher) - 2 * _angles(student, teacher)
    return total / jnp.pi


def _overlap(s: Snapshot) -> Float[Array, "units units"]:
    return s.params @ s.data.teacher.T


def _norm(s: Snapshot) -> Float[Array, "units units"]:
    return s.params @ s.params.T


def _specialised(s: Snapshot) -> Float[Array, ""]:
    """Positive once every unit is nearer to one of the teacher's than to the saddle."""
    cosines = _overlap(s) / jnp.linalg.norm(s.params, axis=1)[:, None]
    return jnp.min(jnp.max(cosines, axis=1)) - (1 + len(cosines) ** -0.5) / 2


_SPECIALISED = Event("specialised", _specialised)


class Committee(Task):
    """A soft committee machine that learns another, of as many units, from a small start.

    Attributes:
        units: K, of the student and of the teacher.
        inputs: dimension of the inputs; at least K.
        initial_norm: of every student vector J_i at t = 0, its direction random. The smaller, the
            longer the plateau.

    >>> import gradflow as gf
    >>> import jax
    >>> problem = gf.tasks.Committee(units=2).build(jax.random.key(0))
    >>> problem.params.shape, round(float(problem.loss(problem.data.teacher, problem.data)), 12)
    ((2, 20), 0.0)
    """

    events: ClassVar = (_SPECIALISED,)

    kind: Literal["committee"] = "committee"
    units: Annotated[int, Field(ge=2, le=1000)] = 3
    inputs: Annotated[int, Field(ge=2, lt=2**31)] = 20
    initial_norm: Annotated[float, Field(gt=0)] = 1e-3

    @field_validator("inputs")
    @classmethod
    def _room_for_the_teacher(cls, inputs: int, fields: ValidationInfo) -> int:
        units = fields.data.get("units", 0)  # where it is refused itself
        if inputs < units:
            raise ValueError(f"got {inputs} for {units} orthogonal units; allowed: {units} or more")
        return inputs

    @property
    def saddle(self) -> Saddle:
        """What the plateau is."""
        return Saddle.of(self.units)

    @property
    def observables(self) -> tuple[Observable, ...]:
        """What is recorded: R, and Q."""
        numbers = tuple(range(1, self.units + 1))
        student, teacher, other = (("student", numbers), ("teacher", numbers), ("other", numbers))
        return (
            Observable("overlap", _overlap, (student, teacher), "overlap $R$ with the teacher"),
            Observable("norm", _norm, (student, other), "overlap $Q$ of student units"),
        )

    @property
    def figures(self) -> tuple[Figure, ...]:
        """The loss and the overlaps, each with the value of the plateau."""
        saddle = self.saddle
        loss = Panel(
            (Line("loss"),),
            yscale="log",
            references=(Reference(saddle.loss, label="plateau", dash="dashed"),),
        )
        overlaps = Panel(
            tuple(
                Line(
                    "overlap",
                    {"student": i, "teacher": n},
                    f"teacher unit {n}" if i == 1 else "_",
                    (n - 0.5) / self.units,
                    "solid",
                )
                for n in range(1, self.units + 1)
                for i in range(1, self.units + 1)
            ),
            ylabel="overlap $R$ of each student unit",
            references=(Reference(saddle.overlap, label="plateau", dash="dashed"),),
        )
        return (
            Figure.both_time_scales("loss", loss, "The loss, and that of the symmetric saddle."),
            Figure.both_time_scales(
                "overlaps",
                overlaps,
                "The overlap of every student unit with every teacher unit, and that of the "
                "symmetric saddle.",
            ),
        )

    def build(self, key: Array, data_key: Array | None = None) -> Problem:
        """The problem for one draw of the student from `key`, the teacher's from `data_key`."""
        data_rng, rng = sources(key, data_key)
        student = rng.normal(size=(self.units, self.inputs))
        student *= self.initial_norm / np.linalg.norm(student, axis=1, keepdims=True)
        return Problem(
            loss,
            jax.device_put(student),
            Data(jax.device_put(orthonormal(data_rng, self.inputs, self.units).T)),
            observables=self.observables,
            events=self.events,
        )

    def phases(self, trajectory: Trajectory) -> dict[str, float | None]:
        """T1, from which on every unit is nearer to one of the teacher's than to the saddle."""
        crossings, final = trajectory.crossings, trajectory.event_values
        return {"T1": positive_since(crossings["specialised"], final["specialised"])}

    def claims(self, trajectory: Trajectory) -> tuple[Claim, ...]:
        """The plateau, how it is left and what comes after."""
        source, percent = "Saad & Solla 1995", f"to {100 * _OFF:g} %"
        rows = (
            Special(f"plateau at the saddle's loss, {percent}", source, "ratio", self._loss),
            Special(f"R_in at the plateau, {percent}", source, "worst ratio", self._overlaps),
            Special(f"Q_ik at the plateau, {percent}", source, "worst ratio", self._norms),
            Special("left at the saddle's rate, to 5 %", source, "ratio", self._escape),
            Special("every unit finds one of its own", source, "least overlap", self._finds),
        )
        return tuple(row(trajectory) for row in rows)

    def _plateau(self, trajectory: Trajectory) -> float:
        """When the flow is slowest before units specialise."""
        end = self.phases(trajectory)["T1"]
        if end is None:
            raise UnansweredError(f"not specialised by t = {trajectory.final_time:.3g}")
        speed = recorded(trajectory, "grad_norm").within(0.0, end)
        if len(speed.times) < 5:
            raise UnansweredError("too few save times before units specialise")
        return float(speed.times[np.argmin(speed.values)])

    def _ratios(
        self, trajectory: Trajectory, claim: Claim, name: str, value: float, *axes: str
    ) -> Claim:
        """The claim that a variable has a value at the plateau, whatever its labels."""
        time, numbers = self._plateau(trajectory), range(1, self.units + 1)
        ratios = []
        for labels in product(numbers, repeat=len(axes)):
            series = recorded(trajectory, name, **dict(zip(axes, labels, strict=True)))
            ratios.append(series.at(time)[0] / value)
        worst = max(ratios, key=lambda ratio: abs(ratio - 1))
        return claim._replace(value=worst, held=abs(worst - 1) < _OFF, interval=(time, time))

    def _loss(self, trajectory: Trajectory, claim: Claim) -> Claim:
        return self._ratios(trajectory, claim, "loss", self.saddle.loss)

    def _overlaps(self, trajectory: Trajectory, claim: Claim) -> Claim:
        value = self.saddle.overlap
        return self._ratios(trajectory, claim, "overlap", value, "student", "teacher")

    def _norms(self, trajectory: Trajectory, claim: Claim) -> Claim:
        return self._ratios(trajectory, claim, "norm", self.saddle.norm, "student", "other")

    def _escape(self, trajectory: Trajectory, claim: Claim) -> Claim:
        start = self._plateau(trajectory)
        times, overlap = trajectory.times("overlap"), trajectory["overlap"]
        spread = np.std(overlap, axis=2).max(axis=1)
        leaving = (times >= start) & (
            np.maximum.accumulate(spread) < _LEAVING * self.saddle.overlap
        )
        if np.sum(leaving) < 3:
            raise UnansweredError("too few save times at the plateau")
        series = Series.of(times[leaving], np.log(spread[leaving]), None)
        ratio = slope(series)[0] / self.saddle.rate
        return claim._replace(
            value=ratio,
            held=abs(ratio - 1) < _OFF_RATE,
            interval=(float(series.times[0]), float(series.times[-1])),
        )

    def _finds(self, trajectory: Trajectory, claim: Claim) -> Claim:
        overlap = np.abs(trajectory["overlap"][-1])
        cosines = overlap / np.sqrt(np.diagonal(trajectory["norm"][-1]))[:, None]
        own = len(set(cosines.argmax(axis=1).tolist())) == self.units
        least, end = float(cosines.max(axis=1).min()), trajectory.final_time
        return claim._replace(value=least, held=own and least > 1 - _OFF, interval=(end, end))
