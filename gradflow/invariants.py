"""Quantities that gradient flow conserves because of the model's form, found in the model.

Let two layers follow each other, z = W_1 h + b_1 and W_2 sigma(z) + b_2, with a function sigma of
each entry for which sigma(c x) = c sigma(x), c > 0. Write g for the gradient of the loss at the
second layer's output, and a sum over samples where there are several. Gradient flow has

    W_2^T W_2' = -(W_2^T g) sigma(z)^T,    W_1' W_1^T + b_1' b_1^T = -(sigma'(z) * W_2^T g) z^T.

Their diagonals agree, since sigma'(z) z = sigma(z) (Euler), and so, neuron by neuron, the diagonal
of W_2^T W_2 - (W_1 W_1^T + b_1 b_1^T) is constant (Du, Hu, Lee 2018, Theorem 2.1, which has no
biases). For sigma(x) = c x the right-hand sides agree, and the whole matrix is constant (Arora,
Cohen, Hazan 2018, in the proof of Theorem 1, without biases). A bias is one more column of W_1,
for one more entry of h that is always 1.

This holds where the loss sees the two layers through the model's output only. Weight decay or
weights that are used twice break it. Finite steps do as well, in proportion to the step.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple, cast

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from ._linalg import positive
from .observables import Observable, Snapshot
from .problem import Problem
from .save_times import Logarithmic

# Products of whole matrices: each costs more than a step.
SAVE = Logarithmic(count=20)

# What a function is looked at: this many points over twice as many decades, to this many eps.
_POINTS, _DECADES, _ROUNDINGS = 64, 6, 64


def automatic(problem: Problem) -> tuple[Observable, ...]:
    """The conserved quantities that every run of `problem` records unasked.

    Returns:
        What there is of them; nothing for most models.

    >>> import gradflow as gf
    >>> import optax
    >>> gf.invariants.automatic(gf.Problem(optax.l2_loss, 1.0, 0.0))  # no layers
    ()
    """
    found = balancedness(problem)
    return () if found is None else (found,)


def balancedness(problem: Problem) -> Observable | None:
    """How far consecutive layers drift from W_2^T W_2 - (W_1 W_1^T + b_1 b_1^T) = constant.

    Records ``balancedness``, with an axis ``layer`` of the pairs' names: from 0, where both sides
    moved alike, to 1, where only one moved. That is the Frobenius norm of the difference between
    the changes of both sides since t = 0, over the sum of the norms of both; of whole matrices
    where sigma(x) = c x or there is nothing between the layers, and of diagonals where sigma is
    only positively homogeneous, as ReLU and leaky ReLU are.

    Pairs are looked for in every `equinox.nn.MLP` and `equinox.nn.Sequential` of the parameters,
    one inside the other too. What sigma is is told from its values at sample points; one with
    arrays, such as PReLU, is left out. Whether the loss leaves the quantity conserved is not
    looked at: the drift is measured.

    Args:
        problem: what is solved.

    Returns:
        The observable; ``None`` where there is no such pair, or no loss whose gradient is
        followed.

    >>> import equinox as eqx, jax, jax.numpy as jnp, optax
    >>> import gradflow as gf
    >>> model = eqx.nn.MLP(2, "scalar", 3, 1, activation=jax.nn.relu, key=jax.random.key(0))
    >>> data = jnp.ones((5, 2)), jnp.zeros(5)
    >>> problem = gf.Problem.from_model(model, optax.l2_loss, data)
    >>> gf.invariants.balancedness(problem).axes
    (('layer', ('layers.0 layers.1',)),)
    """
    pairs = tuple(_pairs(problem)) if problem.has_loss else ()
    if not pairs:
        return None
    return Observable(
        "balancedness",
        _Balancedness(pairs),
        (("layer", tuple(f"{pair.left.name} {pair.right.name}" for pair in pairs)),),
        "drift of W_2^T W_2 - W_1 W_1^T",
        save=SAVE,
    )


def gram_change(now: Float[Array, "k m"], then: Float[Array, "k m"]) -> Float[Array, "m m"]:
    """now^T now - then^T then, written such that little cancels: (X + X^T) / 2.

    >>> import gradflow as gf
    >>> import jax.numpy as jnp
    >>> now, then = jnp.array([[3.0, 1.0]]), jnp.array([[1.0, 1.0]])
    >>> gf.invariants.gram_change(now, then).tolist()
    [[8.0, 2.0], [2.0, 0.0]]
    """
    x = (now - then).T @ (now + then)
    return (x + x.T) / 2


def gram_changes(
    now: Float[Array, "width inputs"], then: Float[Array, "width inputs"], heads: int
) -> Float[Array, "head part part"]:
    """X X^T less what it was, for the rows X of every head.

    >>> import gradflow as gf
    >>> import jax.numpy as jnp
    >>> now, then = jnp.array([[3.0], [1.0]]), jnp.array([[1.0], [1.0]])
    >>> gf.invariants.gram_changes(now, then, heads=2).tolist()
    [[[8.0]], [[0.0]]]
    """
    now, then = (x.reshape(heads, -1, x.shape[1]) for x in (now, then))
    return jax.vmap(lambda x, y: gram_change(x.T, y.T))(now, then)


def relative_drift(one: Array, other: Array) -> Float[Array, ""]:
    """|one - other| relative to what each of the two changes: 0 where they move together.

    >>> import gradflow as gf
    >>> import jax.numpy as jnp
    >>> one, other = jnp.array([3.0, 4.0]), jnp.array([0.0, 0.0])
    >>> [float(gf.invariants.relative_drift(one, each)) for each in (one, other)]
    [0.0, 1.0]
    """
    moved = jnp.linalg.norm(one) + jnp.linalg.norm(other)
    return jnp.linalg.norm(one - other) / positive(moved)


def _square_change(now: Float[Array, "k m"], then: Float[Array, "k m"]) -> Float[Array, " m"]:
    """The diagonal of `gram_change`."""
    return jnp.sum((now - then) * (now + then), axis=0)


@dataclass(frozen=True)
class _Place:
    """Where a trained array is: among the leaves of the parameters, or a row of one of these."""

    leaf: int
    shape: tuple[int, ...]
    row: int | None = None

    def __call__(self, leaves: list[Array]) -> Array:
        return leaves[self.leaf] if self.row is None else leaves[self.leaf][self.row]

    def at_row(self, row: int) -> _Place:
        return replace(self, shape=self.shape[1:], row=row)


class _Layer(NamedTuple):
    """W x + b; of the shape `output`, which is () where equinox calls it a scalar."""

    name: str
    weight: _Place
    bias: _Place | None
    output: tuple[int, ...]

    def inward(self, leaves: list[Array]) -> Float[Array, "inputs outputs"]:
        """[W b]^T: a column for every neuron."""
        weight = self.weight(leaves).T
        return weight if self.bias is None else jnp.vstack([weight, self.bias(leaves)])


class _Pair(NamedTuple):
    """Two layers in turn; `whole` where the function between them is sigma(x) = c x."""

    left: _Layer
    right: _Layer
    whole: bool


@dataclass(frozen=True)
class _Balancedness:
    pairs: tuple[_Pair, ...]

    def __call__(self, snapshot: Snapshot) -> Float[Array, " pairs"]:
        now, then = jax.tree.leaves(snapshot.arrays), jax.tree.leaves(snapshot.origin)

        def drift(pair: _Pair) -> Array:
            change = gram_change if pair.whole else _square_change
            left = change(pair.left.inward(now), pair.left.inward(then))
            return relative_drift(left, change(pair.right.weight(now), pair.right.weight(then)))

        return jnp.stack([drift(pair) for pair in self.pairs])


def _pairs(problem: Problem) -> Iterator[_Pair]:
    """All pairs of layers that the flow balances."""
    leaves, structure = jax.tree.flatten(problem.params)
    places = [_Place(i, leaf.shape) for i, leaf in enumerate(leaves)]
    model = problem.model(structure.unflatten(places))
    chains = (eqx.nn.MLP, eqx.nn.Sequential)
    # Of exactly these types: a subclass may apply its layers in another order. What is inside of
    # `Shared` may be used twice.
    for path, node in jax.tree_util.tree_leaves_with_path(
        model, is_leaf=lambda node: type(node) in (*chains, eqx.nn.Shared)
    ):
        if type(node) in chains:
            name = jax.tree_util.keystr(path, simple=True, separator=".")
            yield from _neighbours(_flat(node, name), problem.dtype)


def _neighbours(chain: Iterator[_Layer | Callable], dtype: Any) -> Iterator[_Pair]:
    """The pairs in what one model applies in turn."""
    left, between = None, []
    for item in chain:
        if not isinstance(item, _Layer):
            between.append(item)
            continue
        # Arrays of another rank are those of several models at once.
        if left and len(left.weight.shape) == len(item.weight.shape) == 2:
            whole = _is_linear(between, left.output, dtype)
            if whole is not None:
                yield _Pair(left, item, whole)
        left, between = item, []


def _flat(node: Any, name: str) -> Iterator[_Layer | Callable]:
    """What a model applies in turn: layers, and everything else as functions."""
    inside = f"{name}.layers" if name else "layers"
    if type(node) is eqx.nn.Sequential:
        for i, inner in enumerate(node.layers):
            yield from _flat(inner, f"{inside}.{i}")
    elif type(node) is eqx.nn.MLP:
        last = len(node.layers) - 1
        for i, layer in enumerate(node.layers):
            function = _Entrywise(node.final_activation if i == last else node.activation)
            # With `scan` the hidden layers are one, whose arrays have one more axis.
            stacked = node.scan and 0 < i < last
            for suffix, each in _unstacked(layer) if stacked else [("", layer)]:
                yield from _flat(each, f"{inside}.{i}{suffix}")
                yield function
    elif type(node) is eqx.nn.Linear and _is_trained(node):
        output = () if node.out_features == "scalar" else (node.out_features,)
        weight, bias = cast(_Place, node.weight), cast("_Place | None", node.bias)
        yield _Layer(name, weight, bias, output)
    else:
        yield node


def _is_trained(layer: eqx.nn.Linear) -> bool:
    return all(isinstance(leaf, _Place) for leaf in (layer.weight, layer.bias) if leaf is not None)


def _unstacked(layer: eqx.nn.Linear) -> Iterator[tuple[str, eqx.nn.Linear]]:
    """Layers that are kept as one, each with the end of its name."""
    if _is_trained(layer):
        for row in range(layer.weight.shape[0]):
            yield f".{row}", jax.tree.map(lambda place, row=row: place.at_row(row), layer)


class _Entrywise(eqx.Module):
    """A function of numbers, applied to every entry."""

    function: Callable

    def __call__(self, x: Array) -> Array:
        return jax.vmap(self.function)(x) if x.ndim else self.function(x)


def _is_linear(between: Sequence[Callable], shape: tuple[int, ...], dtype: Any) -> bool | None:
    """Whether `between`, one after the other, are x -> c x; ``None`` if not even homogeneous.

    An elementwise function of degree 1 is a x for x > 0 and b x for x < 0, with its own a and b
    for each entry. That can be seen on vectors with entries of both signs and many magnitudes: a
    function of several entries, like softmax, is not of this form either.
    """
    if any(eqx.is_array(leaf) or isinstance(leaf, _Place) for leaf in jax.tree.leaves(between)):
        return None

    def function(x: Array) -> Array:
        for each in between:
            x = each(x)
        return x

    rng = np.random.default_rng(0)
    size = (_POINTS, *shape)
    x = rng.choice([-1.0, 1.0], size) * 10 ** rng.uniform(-_DECADES, _DECADES, size)
    x = np.concatenate([np.ones((1, *shape)), -np.ones((1, *shape)), x]).astype(dtype)
    try:
        y = np.asarray(jax.vmap(function)(jax.device_put(x)))
    except Exception:  # of whatever kind: this is no function of a vector
        return None
    if y.shape != x.shape or y.dtype != x.dtype or not np.isfinite(y).all():
        return None
    expected = x * np.where(x > 0, y[0], -y[1])
    rounding = _ROUNDINGS * np.finfo(x.dtype).eps
    if np.any(np.abs(y - expected) > rounding * (np.abs(x) + np.abs(expected))):
        return None
    slopes = np.stack([y[0], -y[1]])
    return bool(np.ptp(slopes) <= rounding * np.abs(slopes).max())
