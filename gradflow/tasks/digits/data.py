"""The images that scikit-learn carries.

Alpaydin & Kaynak, UCI Machine Learning Repository, 1998: 1,797 of 8 x 8 pixels in ten classes.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import numpy as np
from jaxtyping import Array, Float, Int

IMAGES = 1797
SIDE = 8  # pixels
CLASSES = 10


class Images(NamedTuple):
    """Pixels scaled to [0, 1], row by row, and the digit shown."""

    pixels: Float[Array, "n 64"]
    digits: Int[Array, " n"]


class Data(NamedTuple):
    """What is trained on, and all other images."""

    train: Images
    test: Images


def split(key: Array, samples: int) -> Data:
    """So many training images, drawn at random, and the others."""
    # Imported here: it takes as long as everything else together.
    from sklearn.datasets import load_digits

    pixels, digits = load_digits(return_X_y=True)
    order = np.asarray(jax.random.permutation(key, len(digits)))
    parts = (order[:samples], order[samples:])
    return Data(
        *(
            Images(*map(jax.device_put, (pixels[part] / 16.0, digits[part].astype(np.int32))))
            for part in parts
        )
    )
