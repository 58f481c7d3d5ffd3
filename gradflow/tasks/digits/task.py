"""The spec that builds the problem."""

from __future__ import annotations

import math
from typing import Annotated, Any, Literal

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array
from pydantic import Field, ValidationInfo, field_validator

from ...observables import Observable
from ...plotting import Figure
from ...problem import Problem
from ...trajectory import Trajectory
from ..blocks import BALANCES, check_heads, drawn
from ..claims import Claim
from ..evidence import Evidence
from ..task import Task
from .claims import rows
from .data import CLASSES, IMAGES, SIDE, split
from .figures import figures
from .models import Attention, Convolution
from .observables import Model, observables, sample_loss


class Digits(Task):
    """Cross-entropy on scikit-learn's handwritten digits.

    Attributes:
        model: ``"logistic"``, multinomial logistic regression with biases; ``"mlp"``, one hidden
            layer of tanh units; ``"convolution"``, two convolutions with ReLU and a dense layer;
            or ``"attention"``, one block of a transformer on patches of 2 x 2 pixels.
        hidden: hidden units of the mlp, channels of each convolution, or the width of attention;
            unused by logistic regression.
        heads: of attention, a divisor of `hidden`; other models have none.
        samples: training images, drawn at random; the other images are the test set.

    >>> import gradflow as gf
    >>> import jax
    >>> problem = gf.tasks.Digits(samples=50).build(jax.random.key(0))
    >>> problem.size, problem.data.train.pixels.shape  # ten classes of 64 pixels and a bias
    (650, (50, 64))
    """

    kind: Literal["digits"] = "digits"
    model: Model = "logistic"
    hidden: Annotated[int, Field(ge=1, lt=2**31)] = 32
    heads: Annotated[int, Field(ge=1, lt=2**31)] = 1
    samples: Annotated[int, Field(ge=1, lt=IMAGES)] = 1000

    @field_validator("heads")
    @classmethod
    def _of_attention(cls, heads: int, fields: ValidationInfo) -> int:
        model = fields.data.get("model", "attention")
        if heads > 1 and model != "attention":
            raise ValueError(f"got {heads} for model: {model}; allowed: 1, or model: attention")
        return check_heads(heads, fields.data.get("hidden", 0), "hidden")

    @property
    def observables(self) -> tuple[Observable, ...]:
        """What is recorded."""
        return observables(self.model, self.heads)

    @property
    def figures(self) -> tuple[Figure, ...]:
        """What is drawn."""
        return figures(self.model, self.heads)

    def build(self, key: Array, data_key: Array | None = None) -> Problem:
        """The problem for one draw of the weights from `key`, and of the images from `data_key`.

        Weights are drawn in float32 and converted, so that runs in float32 and in float64 start
        at the same point.
        """
        split_key, _ = jax.random.split(key if data_key is None else data_key)
        _, model_key = jax.random.split(key)
        return Problem(
            params=self._weights(model_key),
            data=split(split_key, self.samples),
            sample_loss=sample_loss,
            observables=self.observables,
        )

    def _weights(self, key: Array) -> Any:
        if self.model in ("logistic", "mlp"):
            model = eqx.nn.MLP(
                in_size=SIDE**2,
                out_size=CLASSES,
                width_size=self.hidden,
                depth=1 if self.model == "mlp" else 0,
                activation=jnp.tanh,
                dtype=jnp.float32,
                key=key,
            )
            return jax.tree.map(lambda x: x.astype(float) if eqx.is_array(x) else x, model)
        rng = np.random.default_rng(np.asarray(jax.random.key_data(key)).tolist())
        if self.model == "convolution":
            shapes, gain = eqx.filter_eval_shape(Convolution, self.hidden), 2.0  # of ReLU
        else:
            shapes, gain = eqx.filter_eval_shape(Attention, self.hidden, self.heads), 1.0
        return drawn(shapes, rng, math.sqrt(3 * gain))

    def invariants(self, trajectory: Trajectory) -> dict[str, float]:
        """How far each quantity that the flow conserves drifted, relative, at the worst."""
        conserved = ("balance_channels", *BALANCES)
        return {
            name: float(trajectory[name].max(initial=0.0))
            for name in conserved
            if name in trajectory
        }

    def claims(self, trajectory: Trajectory) -> tuple[Claim, ...]:
        """What is known of the model, checked along the trajectory."""
        evidence = Evidence(trajectory, self.phases(trajectory), 1.0)
        return tuple(row(evidence) for row in rows(self.model))
