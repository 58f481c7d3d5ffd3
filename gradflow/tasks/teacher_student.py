"""Networks that learn the outputs of a random network on Gaussian inputs.

The defaults are the benchmark of MLPGradientFlow.jl (Brea, Martinelli, Simsek & Gerstner,
"MLPGradientFlow: going with the flow of multilayer perceptrons", 2023, arXiv 2301.10638), its
``scripts/ode.jl``: all the teacher's weights and biases are standard normal; the student's weights
are Glorot's normal ones, its biases 0; the loss is the mean square.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Annotated, Literal, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float
from pydantic import Field

from .._linalg import positive
from ..analysis import Series, derived
from ..observables import Observable, Snapshot
from ..plotting import Figure, Line, Panel
from ..problem import Problem
from ..trajectory import Trajectory
from .checking import Special, bounded, recorded
from .claims import Claim
from .draws import generators
from .task import Task

ACTIVATIONS: dict[str, Callable[[Array], Array]] = {
    "softplus": jax.nn.softplus,
    "tanh": jnp.tanh,
    "gelu": jax.nn.gelu,
    "relu": jax.nn.relu,
}
_FACTOR = 10  # of rtol, that every trajectory is held to


class Samples(NamedTuple):
    """Inputs, and what the teacher answers."""

    inputs: Float[Array, "n inputs"]
    targets: Float[Array, " n"]


class Data(NamedTuple):
    """What is trained on, fresh samples, and the teacher's first layer: a row for each unit."""

    train: Samples
    test: Samples
    teacher: Float[Array, "units inputs+1"]


def _square_errors(model: eqx.nn.MLP, samples: Samples) -> Float[Array, " n"]:
    return (jax.vmap(model)(samples.inputs) - samples.targets) ** 2


def sample_loss(model: eqx.nn.MLP, data: Data) -> Float[Array, " n"]:
    """(f(x) - y)^2 of every training sample."""
    return _square_errors(model, data.train)


def first_layer(model: eqx.nn.MLP) -> Float[Array, "units inputs+1"]:
    """The weights into each unit of the first layer, and its bias."""
    layer = model.layers[0]
    assert layer.bias is not None
    return jnp.column_stack([layer.weight, layer.bias])


def _test_loss(s: Snapshot) -> Array:
    return jnp.mean(_square_errors(s.params, s.data.test))


def _cosine(s: Snapshot) -> Float[Array, "students teachers"]:
    one, other = first_layer(s.params), s.data.teacher
    norms = jnp.outer(jnp.linalg.norm(one, axis=1), jnp.linalg.norm(other, axis=1))
    return one @ other.T / jax.vmap(jax.vmap(positive))(norms)


def network(
    rng: np.random.Generator,
    inputs: int,
    width: int,
    depth: int,
    activation: str,
    teacher: bool = False,
) -> eqx.nn.MLP:
    """A network of one output, drawn on the host.

    Args:
        rng: drawn from layer by layer, weights before biases.
        inputs: dimension of the inputs.
        width: units of each hidden layer.
        depth: hidden layers.
        activation: a key of `ACTIVATIONS`.
        teacher: whether all parameters are standard normal; weights are otherwise normal of
            variance 2 / (fan_in + fan_out), and biases 0 (Glorot & Bengio 2010).

    >>> import numpy as np
    >>> from gradflow.tasks.teacher_student import network
    >>> model = network(np.random.default_rng(0), 2, 3, 1, "tanh")
    >>> [layer.weight.shape for layer in model.layers], model.layers[0].bias.tolist()
    ([(3, 2), (1, 3)], [0.0, 0.0, 0.0])
    """

    def drawn(layer: eqx.nn.Linear) -> eqx.nn.Linear:
        fan_out, fan_in = layer.weight.shape
        deviation = 1.0 if teacher else math.sqrt(2 / (fan_in + fan_out))
        weight = deviation * rng.normal(size=(fan_out, fan_in))
        assert layer.bias is not None
        shape = layer.bias.shape
        bias = rng.normal(size=shape) if teacher else np.zeros(shape)
        arrays = jax.device_put(weight), jax.device_put(bias)
        return eqx.tree_at(lambda each: (each.weight, each.bias), layer, arrays)

    shapes = eqx.filter_eval_shape(
        eqx.nn.MLP,
        inputs,
        "scalar",
        width,
        depth,
        ACTIVATIONS[activation],
        key=jax.random.key(0),
    )
    return eqx.tree_at(lambda model: model.layers, shapes, tuple(map(drawn, shapes.layers)))


class TeacherStudent(Task):
    """A student network that learns the outputs of a teacher network.

    Attributes:
        inputs: dimension of the inputs.
        width: units of each hidden layer of the student.
        teacher_width: of the teacher.
        depth: hidden layers of both.
        activation: of the hidden units of both.
        samples: Gaussian inputs that are trained on.
        test_samples: fresh ones for the test loss.

    >>> import gradflow as gf
    >>> import jax
    >>> gf.tasks.TeacherStudent(samples=20).build(jax.random.key(0)).size
    33
    """

    kind: Literal["teacher-student"] = "teacher-student"
    inputs: Annotated[int, Field(ge=1, lt=2**31)] = 2
    width: Annotated[int, Field(ge=1, lt=2**31)] = 8
    teacher_width: Annotated[int, Field(ge=1, lt=2**31)] = 4
    depth: Annotated[int, Field(ge=1, le=100)] = 1
    activation: Literal["softplus", "tanh", "gelu", "relu"] = "softplus"
    samples: Annotated[int, Field(ge=1, lt=2**31)] = 10_000
    test_samples: Annotated[int, Field(ge=1, lt=2**31)] = 1000

    @property
    def observables(self) -> tuple[Observable, ...]:
        """What is recorded: the test loss, and which units of the first layers are alike."""
        axes = (
            ("student", tuple(range(1, self.width + 1))),
            ("teacher", tuple(range(1, self.teacher_width + 1))),
        )
        return (
            Observable("test_loss", _test_loss, label="test loss"),
            Observable("cosine", _cosine, axes, "cosine of weights and bias"),
        )

    @property
    def figures(self) -> tuple[Figure, ...]:
        """The losses, and how near the student comes to each unit of the teacher."""
        loss = Panel(
            (Line("loss", label="training"), Line("test_loss", label="test")),
            ylabel="mean square error",
            yscale="log",
        )
        nearest = Panel(
            tuple(
                Line(_nearest(k), label=f"teacher unit {k}")
                for k in range(1, self.teacher_width + 1)
            ),
            ylabel="largest $|$cosine$|$",
        )
        return (
            Figure.both_time_scales("loss", loss, "Training loss, and that of fresh samples."),
            Figure.both_time_scales(
                "alignment",
                nearest,
                "The largest cosine, but for its sign, between any unit of the student's first "
                "layer, its bias included, and each of the teacher's.",
            ),
        )

    def build(self, key: Array, data_key: Array | None = None) -> Problem:
        """The problem for one draw of the student from `key`, of all else from `data_key`."""
        *sources, _ = generators(key if data_key is None else data_key, 4)
        teacher_rng, train_rng, test_rng = sources
        student_rng = generators(key, 4)[3]
        teacher = network(
            teacher_rng, self.inputs, self.teacher_width, self.depth, self.activation, teacher=True
        )
        answers = eqx.filter_jit(eqx.filter_vmap(teacher))
        train, test = (
            Samples(inputs, answers(inputs))
            for inputs in (
                jax.device_put(rng.normal(size=(count, self.inputs)))
                for rng, count in ((train_rng, self.samples), (test_rng, self.test_samples))
            )
        )
        return Problem(
            params=network(student_rng, self.inputs, self.width, self.depth, self.activation),
            data=Data(train, test, first_layer(teacher)),
            sample_loss=sample_loss,
            observables=self.observables,
        )

    def claims(self, trajectory: Trajectory) -> tuple[Claim, ...]:
        """What ReLU conserves, and how near the student has come to the teacher."""
        source = "Brea et al. 2023"
        rows = [
            Special("the loss tends to 0", source, "share of the initial loss", _share),
            Special("each teacher unit is found", source, "least of the largest |cosines|", _found),
        ]
        if self.activation == "relu":
            what = "worst drift / rtol"
            rows.append(Special("layers stay balanced", "Du et al. 2018", what, _balanced))
        return tuple(row(trajectory) for row in rows)


def _nearest(teacher: int) -> Callable[[Trajectory], tuple[np.ndarray, np.ndarray]]:
    def nearest(trajectory: Trajectory) -> tuple[np.ndarray, np.ndarray]:
        cosines = trajectory.sel("cosine", teacher=teacher)
        return trajectory.times("cosine"), np.abs(cosines).max(axis=1)

    return nearest


def _balanced(trajectory: Trajectory, claim: Claim) -> Claim:
    worst = trajectory["balancedness"].max(axis=1) / trajectory.attrs["rtol"]
    series = Series.of(trajectory.times("balancedness"), worst, None)
    return bounded(claim, series, high=_FACTOR)


def _share(trajectory: Trajectory, claim: Claim) -> Claim:
    loss = recorded(trajectory, "loss")
    share = derived(lambda x: x / loss.values[0], loss)
    return bounded(claim, share, report="end")


def _found(trajectory: Trajectory, claim: Claim) -> Claim:
    end = trajectory.final_time
    least = np.abs(trajectory["cosine"][-1]).max(axis=0).min()
    return claim._replace(value=float(least), interval=(end, end), note="no bound")
