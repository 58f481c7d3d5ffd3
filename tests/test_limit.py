"""The closed form of the limit of infinite width; `test_scaling` has wide systems tend to it."""

import numpy as np
import pytest
from scipy.optimize import nnls

from gradflow.tasks.cooccurrence.data import draw
from gradflow.tasks.cooccurrence.limit import Limit


@pytest.mark.parametrize(("n", "length"), [(12, 3), (24, 5), (12, 8)])
def test_the_limit_is_that_of_sentences_taken_one_by_one(n, length):
    samples = draw(np.random.default_rng(2), n, length, 3 + n * length, unique=True)
    tokens, labels = np.asarray(samples.tokens), np.asarray(samples.labels)
    words = np.arange(tokens.max() + 1)
    counts = (tokens[:, :, None] == words).sum(axis=1).astype(float)
    signed = labels[:, None] * counts
    weights, _ = nnls(np.vstack([signed.T, np.ones(n)]), np.append(np.zeros(len(words)), 1.0))
    weights /= weights.sum()
    response = weights @ signed

    limit = Limit(n, length)
    classes = np.bincount(samples.kinds, weights)
    assert limit.weights == pytest.approx(classes, abs=1e-9)
    margin = response @ response
    assert limit.squared_margin == pytest.approx(margin, rel=1e-9)
    # No sentence has less than this margin: the weights are optimal.
    assert (signed @ response).min() == pytest.approx(margin, rel=1e-9)
    excess = response[None, :] / margin - labels[:, None] / length
    change = np.einsum("i,ik,il->kl", weights * labels, counts * excess, counts)
    assert limit.special == pytest.approx(change[:3, :3], abs=1e-9)
    assert limit.norm == pytest.approx(np.linalg.norm(change), rel=1e-9)
    change[:3, :3] = 0
    assert limit.largest_random == pytest.approx(np.abs(change).max(), rel=1e-9)


def test_the_limit_of_many_sentences():
    limit = Limit(6 * 10**8, 4)
    assert limit.weights == pytest.approx([7 / 17, 5 / 17, 5 / 17, 0], abs=1e-6)
    assert limit.squared_margin == pytest.approx(1 / 17, rel=1e-6)
