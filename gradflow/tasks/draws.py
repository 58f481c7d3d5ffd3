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

    >>> import jax
    >>> from gradflow.tasks.draws import sources
    >>> keys = [jax.random.key(seed) for seed in (0, 1)]
    >>> (data, start), (own, _), (_, initial) = sources(*keys), sources(keys[1]), sources(keys[0])
    >>> data.normal() == own.normal(), start.normal() == initial.normal()
    (True, True)
    """
    data, _ = generators(key if data_key is None else data_key, 2)
    return data, generators(key, 2)[1]


def orthonormal(rng: np.random.Generator, rows: int, columns: int) -> np.ndarray:
    """A random matrix with orthonormal columns, shape ``(rows, columns)``, rows >= columns.

    >>> import numpy as np
    >>> from gradflow.tasks.draws import orthonormal
    >>> q = orthonormal(np.random.default_rng(0), 5, 2)
    >>> np.abs(q.T @ q).round(12).tolist()
    [[1.0, 0.0], [0.0, 1.0]]
    """
    return np.linalg.qr(rng.normal(size=(rows, columns)))[0]
