"""Networks of any size: tanh, two hidden layers, on a thousand samples."""

from __future__ import annotations

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

import gradflow as gf
from benchmarks.problems.networks import fan_in, half_square, redrawn

INPUTS, SAMPLES = 16, 1000
# By about how many parameters they make.
WIDTHS = {10**2: 4, 10**3: 24, 10**4: 91, 10**5: 307, 10**6: 990, 10**7: 3153}


def network(width: int, dtype: str, samples: int = SAMPLES) -> gf.Problem:
    """The flow of one that learns random targets, w^2 + 19 w + 1 parameters of `dtype`."""
    rng = np.random.default_rng(0)
    shapes = eqx.filter_eval_shape(
        eqx.nn.MLP, INPUTS, "scalar", width, 2, jnp.tanh, key=jax.random.key(0)
    )
    model = redrawn(shapes, rng, fan_in(1.0))
    data = jax.device_put((rng.normal(size=(samples, INPUTS)), rng.normal(size=samples)))

    def loss(model, data):
        inputs, targets = data
        return half_square(jax.vmap(model)(inputs), targets)

    problem = gf.Problem(loss, model, data)
    return jax.tree.map(
        lambda leaf: leaf.astype(dtype) if eqx.is_inexact_array(leaf) else leaf, problem
    )
