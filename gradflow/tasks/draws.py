"""Random draws on the host: the same on every device, and in float32 those of float64, rounded."""

from __future__ import annotations

import jax
import numpy as np
from jaxtyping import Array


def generators(key: Array, count: int) -> list[np.random.Generator]:
    """`count` independent generators that stand for one key of JAX's.

    >>> import jax
    >>> from gradflow.tasks.draws import generators
    >>> one, other = generators(jax.random.key(0), 2)
    >>> again, _ = generators(jax.random.key(0), 2)
    >>> first = one.normal()
    >>> first == again.normal(), first == other.normal()
    (True, False)
    """
    entropy = np.asarray(jax.random.key_data(key)).tolist()
    return list(map(np.random.default_rng, np.random.SeedSequence(entropy).spawn(count)))


def sources(
    key: Array, data_key: Array | None = None
) -> tuple[np.random.Generator, np.random.Generator]:
    """What data and initial parameters are drawn from, as `Task.build` promises.

    Data are drawn from `data_key`, if it is given, as they would be from the same `key`.
    """
    data, _ = generators(key if data_key is None else data_key, 2)
    return data, generators(key, 2)[1]


def orthonormal(rng: np.random.Generator, rows: int, columns: int) -> np.ndarray:
    """A random matrix with orthonormal columns, shape ``(rows, columns)``, rows >= columns."""
    return np.linalg.qr(rng.normal(size=(rows, columns)))[0]
