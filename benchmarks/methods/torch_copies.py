"""The test problems in PyTorch: the same arrays, and losses as a user of PyTorch writes them.

A new loss is a function here and a row of `LOSSES`. They run eagerly: `torch.compile` wants a C++
compiler, and makes a step of the transformer's descent a tenth shorter.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial, reduce
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.utils import parameters_to_vector, vector_to_parameters

import gradflow as gf
from benchmarks.problems import deep_linear, digits, quadratics, teacher_student, transformer
from benchmarks.suite.record import usable

from .method import RunFailedError

# Of the model and the data; both have the structure that they have in JAX.
Loss = Callable[[Any, Any], Tensor]

_TRIALS = 20  # gradients


def quadratic(model: Any, data: Any) -> Tensor:
    coordinates = (torch.cat([p.ravel() for p in model.values()]) - data.minimum) @ data.rotation
    return data.eigenvalues @ coordinates**2 / 2


def deep_linear_loss(model: Any, data: Any) -> Tensor:
    outputs = reduce(F.linear, model, data.inputs)
    return ((outputs - data.targets) ** 2).sum(1).mean() / 2


def mlp(model: Any, inputs: Tensor) -> Tensor:
    *hidden, last = model.layers
    for layer in hidden:
        inputs = model.activation(F.linear(inputs, layer.weight, layer.bias))
    return F.linear(inputs, last.weight, last.bias)[:, 0]


def mlp_square(model: Any, data: Any) -> Tensor:
    return F.mse_loss(mlp(model, data.inputs), data.targets)


def mlp_half_square(model: Any, data: Any) -> Tensor:
    return mlp_square(model, data) / 2


def transformer_outputs(model: Any, tokens: Tensor) -> Tensor:
    """F of each sentence; a table of all pairs of words, as in JAX, for it is the fastest."""
    table = model.w_k.T @ model.w_q / math.sqrt(len(model.w_k))
    logits = table[tokens[:, :, None], tokens[:, None, :]]
    received = logits.softmax(1).sum(2)
    response = (model.signs.to(model.w.dtype) @ model.w) @ model.w_v
    return (received * response[tokens]).sum(1)


def transformer_logistic(model: Any, data: Any) -> Tensor:
    train = data.train
    return -F.logsigmoid(train.labels * transformer_outputs(model, train.tokens)).mean()


def transformer_half_square(model: Any, data: Any) -> Tensor:
    return F.mse_loss(transformer_outputs(model, data.train.tokens), data.train.labels) / 2


def convnet_cross_entropy(model: Any, data: Any) -> Tensor:
    x = data.pixels[:, None]
    for layer, stride in ((model.first, 2), (model.second, 1)):
        # In JAX a layer's inputs are the nine neighbours one after another, each with its channels.
        kernel = layer.weight.view(len(layer.weight), 3, 3, -1).permute(0, 3, 1, 2)
        x = gelu(F.conv2d(x, kernel, layer.bias, stride=stride, padding=1))
    x = x.permute(0, 2, 3, 1).flatten(1)
    x = gelu(F.linear(x, model.dense.weight, model.dense.bias))
    return F.cross_entropy(F.linear(x, model.readout.weight, model.readout.bias), data.digits)


gelu = partial(F.gelu, approximate="tanh")

LOSSES: dict[Callable, Loss] = {
    quadratics.loss: quadratic,
    deep_linear.loss: deep_linear_loss,
    teacher_student.half_square_loss: mlp_half_square,
    teacher_student.square_loss: mlp_square,
    transformer.sample_loss: transformer_logistic,
    transformer.half_square_sample_loss: transformer_half_square,
    digits.sample_loss: convnet_cross_entropy,
}
_ACTIVATIONS: dict[Callable, Callable[[Tensor], Tensor]] = {
    jax.nn.gelu: gelu,
    jnp.tanh: torch.tanh,
    # Exact: PyTorch's own default is linear from 20 on, which differs by 2e-9.
    jax.nn.softplus: partial(F.softplus, threshold=40),
}


@dataclass(frozen=True)
class Copy:
    """A problem in PyTorch.

    Attributes:
        model: as in JAX, with PyTorch's parameters in place of its trained arrays.
        data: as in JAX, with tensors.
        params: the model's parameters, in the order of `benchmarks.problems.flat`.
        function: the loss, of the model and the data.
    """

    model: Any
    data: Any
    params: list[torch.nn.Parameter]
    function: Loss

    @classmethod
    def of(cls, problem: gf.Problem) -> Copy:
        """The copy of a problem, of its own precision and on the CPU.

        PyTorch is given as many threads as JAX has, or one where it is quicker with one.

        Raises:
            RunFailedError: the problem's loss has no row in `LOSSES`.
        """
        function = LOSSES.get(problem._sample_loss or problem._loss)
        if function is None:
            raise RunFailedError(
                f"the loss at {problem.place} has no copy in PyTorch; write one, and a row for it "
                f"in LOSSES of {__name__}"
            )
        leaves, structure = jax.tree.flatten(problem.params)
        params = [torch.nn.Parameter(_tensor(leaf)) for leaf in leaves]
        kept = jax.tree.map(_kept, problem.static)
        copy = cls(
            eqx.combine(structure.unflatten(params), kept),
            jax.tree.map(_tensor, problem.data),
            params,
            function,
        )
        copy.choose_threads()
        return copy

    def loss(self) -> Tensor:
        """The loss at `params`, shape ``()``."""
        return self.function(self.model, self.data)

    def gradient(self, vector: Tensor) -> Tensor:
        """The gradient at parameters in one vector, like that of `flat`, both ``(size,)``.

        `params` are views of that vector afterwards.
        """
        vector_to_parameters(vector, self.params)
        with torch.enable_grad():
            loss = self.loss()
        # Twice as fast as `torch.func.grad` where the arrays are small.
        gradients = torch.autograd.grad(loss, self.params)
        return torch.cat([each.ravel() for each in gradients])

    def choose_threads(self) -> None:
        """Sets PyTorch's threads to what makes the loss and its gradient quickest: all, or one.

        For small arrays all of them take longer, and tens of times as long where the machine does
        something else too: they spin while they wait.
        """
        taken = {}
        for threads in (usable(), 1):
            torch.set_num_threads(threads)
            self.loss().backward()
            began = time.perf_counter()
            for _ in range(_TRIALS):
                self.loss().backward()
            taken[threads] = time.perf_counter() - began
        torch.set_num_threads(min(taken, key=taken.__getitem__))
        for param in self.params:
            param.grad = None

    def start(self) -> Tensor:
        """A new vector of `params` as they are, shape ``(size,)``."""
        return parameters_to_vector(self.params).detach()


def _tensor(array: Any) -> Tensor:
    tensor = torch.from_numpy(np.array(array))
    return tensor if tensor.is_floating_point() else tensor.long()  # an index, in PyTorch


def _kept(leaf: Any) -> Any:
    """What is not trained: constants, and activations."""
    return _tensor(leaf) if eqx.is_array(leaf) else _ACTIVATIONS.get(leaf, leaf)
