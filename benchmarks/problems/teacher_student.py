"""Networks that learn the outputs of a random network on Gaussian inputs."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

import gradflow as gf

from .case import Case
from .networks import Deviation, fan_in, glorot, half_square, redrawn


class Data(NamedTuple):
    """Inputs, and what the teacher answers."""

    inputs: Float[Array, "n inputs"]
    targets: Float[Array, " n"]


def half_square_loss(model: eqx.nn.MLP, data: Data) -> Float[Array, ""]:
    """mean (f(x) - y)^2 / 2."""
    return half_square(jax.vmap(model)(data.inputs), data.targets)


def square_loss(model: eqx.nn.MLP, data: Data) -> Float[Array, ""]:
    """mean (f(x) - y)^2, as MLPGradientFlow.jl has it."""
    return 2 * half_square_loss(model, data)


def _gelu(x: np.ndarray) -> np.ndarray:
    """As `jax.nn.gelu`: Hendrycks & Gimpel (2016), the approximation by tanh."""
    return x * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3))) / 2


def _softplus(x: np.ndarray) -> np.ndarray:
    return np.logaddexp(0, x)


@dataclass(frozen=True)
class Recipe:
    """A teacher, a student and what they see.

    Attributes:
        sizes: inputs, then the units of each hidden layer, of the student.
        activation: of the student's hidden units.
        host_activation: the same function for the teacher, which is evaluated in NumPy.
        deviation: of the student's initial weights.
        samples: inputs drawn.
        teacher_sizes: as `sizes`, of the teacher.
        teacher_deviation: of the teacher's weights.
        teacher_biases: the standard deviation of the teacher's biases.
        target_deviation: targets are shifted and scaled to mean 0 and this standard deviation;
            they are the teacher's own if ``None``.
        loss: of the student and the data.
    """

    sizes: tuple[int, ...]
    activation: Callable[[Array], Array]
    host_activation: Callable[[np.ndarray], np.ndarray]
    deviation: Deviation
    samples: int
    teacher_sizes: tuple[int, ...]
    teacher_deviation: Deviation
    teacher_biases: float
    target_deviation: float | None
    loss: Callable[[Any, Any], Array]

    def __call__(self, seed: int) -> gf.Problem:
        """The problem of one seed: the teacher, the inputs and the start are all drawn anew."""
        rng = np.random.default_rng(seed)
        inputs = rng.normal(size=(self.samples, self.sizes[0]))
        data = Data(*map(jax.device_put, (inputs, self._targets(rng, inputs))))
        return gf.Problem(self.loss, self._student(rng), data)

    def _targets(self, rng: np.random.Generator, inputs: np.ndarray) -> np.ndarray:
        sizes = (*self.teacher_sizes, 1)
        values = inputs
        for i in range(len(sizes) - 1):
            shape = (sizes[i + 1], sizes[i])
            weight = self.teacher_deviation(shape) * rng.normal(size=shape)
            bias = self.teacher_biases * rng.normal(size=shape[0])
            values = (self.host_activation(values) if i > 0 else values) @ weight.T + bias
        targets = values[:, 0]
        if self.target_deviation is None:
            return targets
        return (targets - targets.mean()) * (self.target_deviation / targets.std())

    def _student(self, rng: np.random.Generator) -> eqx.nn.MLP:
        shapes = eqx.filter_eval_shape(
            eqx.nn.MLP,
            in_size=self.sizes[0],
            out_size="scalar",
            width_size=self.sizes[1],
            depth=len(self.sizes) - 1,
            activation=self.activation,
            key=jax.random.key(0),
        )
        return redrawn(shapes, rng, self.deviation)


_HI = Recipe(
    sizes=(10, 20, 20),
    activation=jax.nn.gelu,
    host_activation=_gelu,
    deviation=fan_in(math.sqrt(2)),
    samples=200,
    teacher_sizes=(10, 20, 20),
    teacher_deviation=fan_in(math.sqrt(2)),
    teacher_biases=0.0,
    target_deviation=20.0,
    loss=half_square_loss,
)
_MLP = Recipe(
    sizes=(10, 50, 50),
    activation=jnp.tanh,
    host_activation=np.tanh,
    deviation=fan_in(1.0),
    samples=200,
    teacher_sizes=(10, 50, 50),
    teacher_deviation=fan_in(1.2),
    teacher_biases=0.0,
    target_deviation=1.0,
    loss=half_square_loss,
)
_ODE = Recipe(
    sizes=(2, 8),
    activation=jax.nn.softplus,
    host_activation=_softplus,
    deviation=glorot,
    samples=10_000,
    teacher_sizes=(2, 4),
    teacher_deviation=lambda _: 1.0,
    teacher_biases=1.0,
    target_deviation=None,
    loss=square_loss,
)

CASES = (
    Case(
        "hi",
        "GELU 10-20-20-1 learns a GELU teacher of large outputs: sharpness grows twentyfold",
        _HI,
        100.0,
        frozenset({"stiff"}),
        (0, 1, 2, 3, 4),
    ),
    Case(
        "mlp",
        "tanh 10-50-50-1 learns a tanh teacher: a long run at a steady sharpness",
        _MLP,
        2000.0,
        frozenset({"stiff"}),
        (0, 1, 2, 3, 4),
    ),
    Case(
        "ode",
        "softplus 2-8-1 learns a softplus teacher of 4 units: MLPGradientFlow.jl's ode.jl",
        _ODE,
        100.0,
        frozenset({"mild"}),
    ),
    Case(
        "ode-long",
        "the same, ten times as long: stability limits all steps but the first",
        _ODE,
        1000.0,
        frozenset({"stiff"}),
    ),
)
