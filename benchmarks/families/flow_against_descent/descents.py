"""Gradient descent as it is written by hand, with optax and with PyTorch, and `gradflow.descend`.

Each is a function of the number of steps, and returns where it ends as a vector like that of
`benchmarks.problems.flat`.
"""

from __future__ import annotations

from collections.abc import Callable

import jax
import numpy as np
import optax

import gradflow as gf
from benchmarks.problems import flat

Descent = Callable[[int], np.ndarray]

OPTAX, LOOP, TORCH, OWN = (
    "optax, jitted step",
    "lax.fori_loop by hand",
    "PyTorch, optim.SGD",
    "gf.descend",
)


def with_optax(problem: gf.Problem, rate: float) -> Descent:
    """As optax's documentation has it: a jitted step, called from Python."""
    optimiser = optax.sgd(rate)

    @jax.jit
    def step(params, state, data):
        gradients = jax.grad(problem.loss)(params, data)
        updates, state = optimiser.update(gradients, state, params)
        return optax.apply_updates(params, updates), state

    def run(steps: int) -> np.ndarray:
        params = problem.params
        state = optimiser.init(params)
        for _ in range(steps):
            params, state = step(params, state, problem.data)
        return np.asarray(flat(params))

    return run


def by_hand(problem: gf.Problem, rate: float) -> Descent:
    """One compiled loop over the gradient."""

    @jax.jit
    def loop(params, data, rate, steps):
        def step(_, params):
            gradients = jax.grad(problem.loss)(params, data)
            return jax.tree.map(lambda p, g: p - rate * g, params, gradients)

        return jax.lax.fori_loop(0, steps, step, params)

    return lambda steps: np.asarray(flat(loop(problem.params, problem.data, rate, steps)))


def with_torch(problem: gf.Problem, rate: float) -> Descent:
    """The full batch, backward, and a step of `torch.optim.SGD`."""
    import torch
    from torch.nn.utils import vector_to_parameters

    from benchmarks.methods.torch_copies import Copy

    copy = Copy.of(problem)
    start = copy.start()

    def run(steps: int) -> np.ndarray:
        vector_to_parameters(start.clone(), copy.params)
        optimiser = torch.optim.SGD(copy.params, lr=rate)
        for _ in range(steps):
            optimiser.zero_grad()
            copy.loss().backward()
            optimiser.step()
        return copy.start().numpy()

    return run


def with_gradflow(problem: gf.Problem, rate: float) -> Descent:
    """`gradflow.descend`, nothing recorded but its ends."""

    def run(steps: int) -> np.ndarray:
        save = gf.Explicit(times=[0.0, rate * steps])
        descent = gf.descend(problem, learning_rate=rate, steps=steps, save=save)
        return np.asarray(flat(descent.final_params))

    return run
