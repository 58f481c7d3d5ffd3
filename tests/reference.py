"""An independent oracle for the word co-occurrence transformer, in NumPy and SciPy alone.

Nothing here comes from gradflow or JAX. Gradients are written by hand, sample by sample, from eq. 1
of Yang, Kailkhura, Wang, Liang (NeurIPS 2024, arXiv 2410.09605); the flow is SciPy's. Below that
stand a few gradient flows with a closed form.

Axes, in einsum letters throughout: n sample, d word of the vocabulary, m hidden unit, j neuron
(m1 of them), k position of a key, l position of a query; both positions run over L. The
embeddings are the standard basis of R^d, so that token i is the word mu_(i+1).

    F(X) = sum_l sum_j a_j w_j^T W_V X p_l,    p_l = softmax_k(X^T W_K^T W_Q x_l / sqrt(m))
    loss = mean_n log(1 + exp(-y_n F(X_n)))
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.integrate import solve_ivp
from scipy.special import expit, wrightomega

Array = NDArray[Any]

CLASSES = ("both", "first", "second", "neither")


class Weights(NamedTuple):
    """The trained matrices of eq. 1. A gradient or a velocity has the same form.

    w: (m1, m), rows w_j;  w_v, w_k, w_q: (m, d), the value, key and query matrices.
    """

    w: Array
    w_v: Array
    w_k: Array
    w_q: Array


class _Forward(NamedTuple):
    """What the forward pass leaves for the gradients. Vectors of a position are rows."""

    one_hot: Array  # (n, L, d): X^T
    values: Array  # (n, L, m): (W_V X)^T
    keys: Array  # (n, L, m): (W_K X)^T
    queries: Array  # (n, L, m): (W_Q X)^T
    attention: Array  # (n, L key, L query): column l is p_l
    readout: Array  # (m,): u = sum_j a_j w_j
    response: Array  # (n, L): X^T W_V^T u
    output: Array  # (n,): F(X)


def _forward(weights: Weights, a: Array, tokens: Array) -> _Forward:
    """Eq. 1 for every sample. Holomorphic in the weights, so complex weights are welcome."""
    width, words = weights.w_v.shape
    one_hot = np.eye(words)[tokens]
    values, keys, queries = (
        np.einsum("nkd,md->nkm", one_hot, word_map, optimize=True) for word_map in weights[1:]
    )
    logits = keys @ np.swapaxes(queries, 1, 2) / np.sqrt(width)
    weight = np.exp(logits - np.real(logits).max(axis=1, keepdims=True))
    attention = weight / weight.sum(axis=1, keepdims=True)
    readout = a @ weights.w
    response = values @ readout
    output = np.einsum("nk,nkl->n", response, attention)
    return _Forward(one_hot, values, keys, queries, attention, readout, response, output)


def predict(weights: Weights, a: Array, tokens: Array) -> Array:
    """F(X) of eq. 1 for every sample.

    a: (m1,), the signs +-1;  tokens: (n, L), integers in 0..d-1.  Returns (n,).
    """
    return _forward(weights, a, tokens).output


def logistic(margins: Array) -> Array:
    """log(1 + exp(-z)), elementwise, without overflow; real, extended or complex z."""
    positive = np.real(margins) >= 0
    small = np.exp(np.where(positive, -margins, margins))
    return np.where(positive, 0.0, -margins) + np.log1p(small)


def loss(weights: Weights, a: Array, tokens: Array, labels: Array) -> Any:
    """The mean logistic loss, a scalar of the weights' dtype.  labels: (n,), +-1."""
    return logistic(labels * predict(weights, a, tokens)).mean()


def gradient(weights: Weights, a: Array, tokens: Array, labels: Array) -> Weights:
    """The gradient of the mean logistic loss (the paper's Appendix B, with the sign turned).

    With g_n = 1 / (1 + exp(y_n F_n)), the loss of sample n has derivative -g_n y_n in F_n, and

        dF/dw_j = a_j sum_l W_V X p_l                  dF/dW_V = u sum_l (X p_l)^T
        dF/dz_l = (diag(p_l) - p_l p_l^T) X^T W_V^T u =: s_l    for the logits z_l of query l,
                  z_l = X^T W_K^T W_Q x_l / sqrt(m), hence
        dF/dW_K = sum_l (W_Q x_l) (X s_l)^T / sqrt(m)  dF/dW_Q = sum_l (W_K X s_l) x_l^T / sqrt(m)

    Shapes as in `predict` and `loss`. Returns the four derivatives as `Weights`.
    """
    return _gradient(_forward(weights, a, tokens), a, labels)


def _gradient(f: _Forward, a: Array, labels: Array) -> Weights:
    """The formulas of `gradient`; each sample enters with the factor -g_n y_n / n."""
    factor = -expit(-labels * f.output) * labels / len(labels)
    scale = 1 / np.sqrt(f.values.shape[2])

    received = f.attention.sum(axis=2)  # (n, L key)
    w = np.outer(a, factor @ np.einsum("nk,nkm->nm", received, f.values))
    w_v = np.outer(f.readout, factor @ np.einsum("nk,nkd->nd", received, f.one_hot))

    p = np.swapaxes(f.attention, 1, 2)  # (n, L query, L key)
    jacobian = p[..., None] * np.eye(p.shape[2]) - p[..., None] * p[..., None, :]
    s = np.einsum("nlkh,nh->nkl", jacobian, f.response) * (scale * factor)[:, None, None]
    w_k = np.einsum("nkm,nkd->md", s @ f.queries, f.one_hot, optimize=True)
    w_q = np.einsum("nlm,nld->md", np.swapaxes(s, 1, 2) @ f.keys, f.one_hot, optimize=True)
    return Weights(w, w_v, w_k, w_q)


def classes(tokens: Array) -> Array:
    """The class of each sample, an index into CLASSES, from the words that it contains.

    Definition 2.1: I1 holds both targets (words 0 and 1), I2 and I3 one, I4 neither.
    tokens: (n, L).  Returns (n,) integers in 0..3.
    """
    lacks_first = (tokens != 0).all(axis=1)
    lacks_second = (tokens != 1).all(axis=1)
    return 2 * lacks_first + lacks_second


def observables(weights: Weights, a: Array, tokens: Array, labels: Array) -> dict[str, Any]:
    """What the paper follows along a run, over the words mu_1..mu_3 where words are asked for.

    loss, min_margin, grad_norm: scalars;  min_margin = min_n y_n F_n
    class_loss (4,): mean loss in each class, NaN for a class without samples
    class_gradient (4,): S_k, the sum (not the mean) of g_n over class k (Lemma 4.4)
    attention_score (3, 3), [key, query]: mu_key^T W_K^T W_Q mu_query, without 1/sqrt(m)
    value_correlation (3, 3): mu_i^T W_V^T W_V mu_j
    response (3,): G(mu) = sum_j a_j w_j^T W_V mu
    """
    f = _forward(weights, a, tokens)
    margins = labels * f.output
    losses, g = logistic(margins), expit(-margins)
    members = classes(tokens) == np.arange(len(CLASSES))[:, None]
    with np.errstate(invalid="ignore"):
        class_loss = members @ losses / members.sum(axis=1)
    value, key, query = (matrix[:, :3] for matrix in weights[1:])
    return {
        "loss": losses.mean(),
        "class_loss": class_loss,
        "class_gradient": members @ g,
        "min_margin": margins.min(),
        "attention_score": key.T @ query,
        "value_correlation": value.T @ value,
        "response": f.readout @ value,
        "grad_norm": np.linalg.norm(pack(_gradient(f, a, labels))),
    }


def pack(weights: Weights) -> Array:
    """All entries as one vector: w, w_v, w_k, w_q, each in C order."""
    return np.concatenate([matrix.ravel() for matrix in weights])


def unpack(vector: Array, like: Weights) -> Weights:
    """The inverse of `pack`, with the shapes of `like`. The matrices are views of the vector."""
    ends = np.cumsum([matrix.size for matrix in like])[:-1]
    parts = zip(np.split(vector, ends), like, strict=True)
    return Weights(*(part.reshape(matrix.shape) for part, matrix in parts))


def velocity(
    weights: Weights, a: Array, tokens: Array, labels: Array
) -> Callable[[float, Array], Array]:
    """The flow's right-hand side, (t, vector) -> -grad L, on vectors packed like `weights`."""

    def field(_: float, vector: Array) -> Array:
        return -pack(gradient(unpack(vector, weights), a, tokens, labels))

    return field


def solve(
    weights: Weights,
    a: Array,
    tokens: Array,
    labels: Array,
    times: Sequence[float] | Array,
    rtol: float = 1e-11,
    atol: float = 1e-13,
    method: str = "DOP853",
) -> list[Weights]:
    """The gradient flow from `weights` at time 0, at each of `times` (ascending, from 0 on).

    SciPy's `solve_ivp`, whose tolerances hold for the root mean square over the entries of the
    local error divided by atol + rtol |entry|. Times before the last are read off the method's
    interpolant (order 7 for DOP853), which may lose two digits; the last one is the end of a step.
    """
    times = np.asarray(times, dtype=float)
    field = velocity(weights, a, tokens, labels)
    span, start = (0.0, times[-1]), pack(weights)
    result = solve_ivp(field, span, start, method, t_eval=times, rtol=rtol, atol=atol)
    if not result.success:
        raise RuntimeError(f"the reference solve failed: {result.message}")
    return [unpack(vector, weights) for vector in result.y.T.copy()]


def quadratic_flow(
    eigenvalues: Array, rotation: Array, theta0: Array, minimum: Array, times: ArrayLike
) -> Array:
    """The flow of L = (theta - minimum)^T H (theta - minimum) / 2, H = R diag(eigenvalues) R^T.

    theta(t) = minimum + R exp(-eigenvalues t) R^T (theta0 - minimum).
    eigenvalues, theta0, minimum: (k,);  rotation R: (k, k), orthogonal, its columns the
    eigenvectors;  times: (T,).  Returns (T, k).
    """
    decay = np.exp(-np.multiply.outer(np.asarray(times, dtype=float), eigenvalues))
    return minimum + (decay * (rotation.T @ (theta0 - minimum))) @ rotation.T


def logistic_scalar_flow(theta0: float, t: ArrayLike) -> Array:
    """The flow of L = log(1 + exp(-theta)), that is theta' = 1 / (1 + exp(theta)), for t >= 0.

    theta + exp(theta) = theta0 + exp(theta0) + t = c, so omega = exp(theta) solves
    omega + log(omega) = c: it is Wright's omega function of c. theta = log(omega) = c - omega;
    the first loses nothing for c > 1, the second nothing for c < 1 (omega may underflow).
    From theta0 = 40 on, exp(theta) = exp(theta0) + t to double precision. Any shape of t.
    Error within a few ulp of max(1, |theta0|, |theta|).
    """
    t = np.asarray(t, dtype=float)
    if theta0 >= 40:
        return theta0 + np.log1p(t * np.exp(-theta0))
    c = theta0 + np.exp(theta0) + t
    omega = wrightomega(c)
    return np.where(c > 1, np.log(np.where(c > 1, omega, 1.0)), c - omega)


def scalar_quartic_flow(theta0: float, t: ArrayLike) -> Array:
    """The flow of L = theta^4 / 4, that is theta' = -theta^3, for t >= 0 of any shape.

    theta(t) = theta0 / sqrt(1 + 2 theta0^2 t): an algebraic decay, with no rate at the minimum.
    """
    return theta0 / np.sqrt(1 + 2 * theta0**2 * np.asarray(t, dtype=float))
