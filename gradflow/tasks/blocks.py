"""Blocks of a transformer, and what gradient flow conserves in them.

The scores of a head depend on W_Q^T W_K alone, and what it adds to the stream on W_O W_V alone. So
(A W_K, A^-T W_Q) and (A W_V, W_O A^-1) are the same model for every invertible A, and, as along
every such symmetry, head by head

    W_K W_K^T - W_Q W_Q^T    and    W_V W_V^T - W_O^T W_O

are constant along the flow of any loss of the model's output (Kunin et al. 2021, "Neural
Mechanics", on symmetries and what they conserve; Marcotte, Gribonval & Peyré 2023, "Abide by the
Law and Follow the Flow"). The MLP's activation is smooth, because every kink costs a solver steps;
of its layers then nothing is conserved. Nothing is normalised.
"""

from __future__ import annotations

import math
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from ..analysis import Series
from ..invariants import SAVE, gram_changes, relative_drift
from ..observables import Observable, Snapshot
from ..plotting import Figure, Line, Panel
from .evidence import Evidence, Row, UnansweredError

# Observables that the flow leaves at 0, and what it is that they measure the drift of.
BALANCES = {
    "balance_attention": r"$W_K W_K^\top - W_Q W_Q^\top$",
    "balance_values": r"$W_V W_V^\top - W_O^\top W_O$",
}


class Attention(eqx.Module):
    """W_O concat_h sum_k p^h_lk W_V^h x_k, at every position l of a sequence.

    p^h_l = softmax_k(x_l^T W_Q^hT W_K^h x_k / sqrt(m/H) + b^h_lk), with a given b; head h of H has
    the h-th m/H of the m rows of W_Q, W_K and W_V, and of the columns of W_O (Vaswani et al. 2017,
    Section 3.2.2, without biases).

    Attributes:
        w_q: queries, shape ``(width, width)``; likewise keys `w_k`, values `w_v`, output `w_o`.
        heads: H, which divides the width.
    """

    w_q: Float[Array, "width width"]
    w_k: Float[Array, "width width"]
    w_v: Float[Array, "width width"]
    w_o: Float[Array, "width width"]
    heads: int = eqx.field(static=True)

    def __init__(self, width: int, heads: int) -> None:
        self.w_q, self.w_k, self.w_v, self.w_o = (jnp.zeros((width, width)) for _ in range(4))
        self.heads = heads

    def __call__(
        self, x: Float[Array, "length width"], bias: Float[Array, "#head query key"] | float = 0.0
    ) -> Float[Array, "length width"]:
        """What every position receives."""
        received = jnp.einsum("hlk,hkm->lhm", self.weights(x, bias), self._parts(self.w_v, x))
        return received.reshape(len(x), -1) @ self.w_o.T

    def weights(
        self, x: Float[Array, "length width"], bias: Float[Array, "#head query key"] | float = 0.0
    ) -> Float[Array, "head query key"]:
        """For each position, as a query, the softmax weight of every key."""
        queries, keys = self._parts(self.w_q, x), self._parts(self.w_k, x)
        scores = jnp.einsum("hlm,hkm->hlk", queries, keys) / math.sqrt(keys.shape[-1])
        return jax.nn.softmax(scores + bias)

    def _parts(
        self, matrix: Float[Array, "width width"], x: Float[Array, "length width"]
    ) -> Float[Array, "head length part"]:
        """Each head's part of the vector at every position."""
        return jnp.swapaxes((x @ matrix.T).reshape(len(x), self.heads, -1), 0, 1)


class Block(eqx.Module):
    """Attention and an MLP of one hidden layer of GELU, each added to the stream that it reads.

    Attributes:
        attention: what positions tell each other.
        mlp: applied at every position; its biases are trained.
    """

    attention: Attention
    mlp: eqx.nn.MLP

    def __init__(self, width: int, heads: int, neurons: int, key: Array) -> None:
        self.attention = Attention(width, heads)
        self.mlp = eqx.nn.MLP(width, width, neurons, 1, jax.nn.gelu, key=key)

    def __call__(
        self, x: Float[Array, "length width"], bias: Float[Array, "#head query key"] | float = 0.0
    ) -> Float[Array, "length width"]:
        """The stream behind the block."""
        x = x + self.attention(x, bias)
        return x + jax.vmap(self.mlp)(x)


def drawn(shapes: Any, rng: np.random.Generator, scale: float = 1.0) -> Any:
    """A model at its initialisation, from one that has shapes in place of arrays.

    Args:
        shapes: what `equinox.filter_eval_shape` returns.
        rng: drawn from in the order of the leaves.
        scale: of the weights.

    Returns:
        The model with weights uniform on +-scale/sqrt(fan_in), where fan_in is the last axis of a
        matrix, and zeros in place of vectors. Numbers are of float32's, so that runs in float32
        and in float64 start at the same point.
    """

    def leaf(x: Any) -> Any:
        if not isinstance(x, jax.ShapeDtypeStruct):
            return x
        bound = scale / math.sqrt(x.shape[-1]) if len(x.shape) > 1 else 0.0
        return jax.device_put(rng.uniform(-bound, bound, x.shape).astype(np.float32).astype(float))

    return jax.tree.map(leaf, shapes)


def balances(layers: int, heads: int) -> tuple[Observable, ...]:
    """How far each head of a model's ``blocks`` drifts from what the flow conserves.

    Returns:
        The observables `BALANCES`, each with the axes ``layer`` and ``head``, from 1: from 0, where
        both sides moved alike, to 1, where only one moved.
    """
    axes = (("layer", tuple(range(1, layers + 1))), ("head", tuple(range(1, heads + 1))))
    functions = (_balance_attention, _balance_values)
    return tuple(
        Observable(name, function, axes, f"drift of {formula}", save=SAVE)
        for (name, formula), function in zip(BALANCES.items(), functions, strict=True)
    )


def balance_figure(layers: int, heads: int) -> Figure:
    """What `balances` record, head by head."""
    lines = tuple(
        Line(
            name,
            {"layer": layer, "head": head},
            f"{place_name(layer, head, layers, heads)}{formula}",
        )
        for name, formula in BALANCES.items()
        for layer in range(1, layers + 1)
        for head in range(1, heads + 1)
    )
    panel = Panel(lines, ylabel="relative drift", xscale="log", yscale="log")
    return Figure("balance", (panel,), "How far the heads drift from what the flow conserves.")


def place_name(layer: int, head: int, layers: int, heads: int) -> str:
    """Which head it is, with a comma and a blank behind it; nothing where there is only one."""
    parts = [f"layer {layer}"] * (layers > 1) + [f"head {head}"] * (heads > 1)
    return "".join(f"{part}, " for part in parts)


def balance_rows() -> tuple[Row, ...]:
    """The claims that heads stay balanced."""
    source = "Marcotte et al. 2023"
    names = ("keys and queries stay balanced", "values and outputs stay balanced")
    return tuple(
        balance_row(name, source, variable) for name, variable in zip(names, BALANCES, strict=True)
    )


def balance_row(name: str, source: str, variable: str) -> Row:
    """The claim that a relative drift, over all its axes, stays below 1 %."""

    def largest(evidence: Evidence) -> Series:
        trajectory = evidence.trajectory
        if variable not in trajectory:
            raise UnansweredError(f"{variable} is not recorded")
        values = trajectory[variable]
        return Series.of(
            trajectory.times(variable), values.max(axis=tuple(range(1, values.ndim))), None
        )

    return Row(name, source, "largest drift", largest, "run", high=0.01, report="largest")


def check_heads(heads: int, width: int, name: str = "width") -> int:
    """`heads`, which must divide the width that is called `name`.

    Raises:
        ValueError: they do not; it says which numbers do.
    """
    if width % heads:
        small = [n for n in range(1, math.isqrt(width) + 1) if width % n == 0]
        divisors = (*small, *(width // n for n in small))
        nearest = min(divisors, key=lambda n: abs(n - heads))
        multiple = -(-width // heads) * heads
        raise ValueError(
            f"got {heads}, which does not divide {name} = {width}; allowed: a divisor of the "
            f"{name}, the nearest is {nearest}, or set {name} to {multiple}"
        )
    return heads


def _balance_attention(s: Snapshot) -> Array:
    return _drifts(s, lambda attention: (attention.w_k, attention.w_q))


def _balance_values(s: Snapshot) -> Array:
    return _drifts(s, lambda attention: (attention.w_v, attention.w_o.T))


def _drifts(s: Snapshot, sides: Any) -> Float[Array, "layer head"]:
    drifts = []
    for now, then in zip(s.params.blocks, s.initial.blocks, strict=True):
        moved = (
            gram_changes(x, y, now.attention.heads)
            for x, y in zip(sides(now.attention), sides(then.attention), strict=True)
        )
        drifts.append(jax.vmap(relative_drift)(*moved))
    return jnp.stack(drifts)
