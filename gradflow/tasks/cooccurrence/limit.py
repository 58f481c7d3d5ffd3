"""The limit of infinite width in closed form: where the late flow goes, with its constants.

The project's own derivation, from the coupled dynamical system (Appendix C). For m far above m_1
and L^2 attention stays uniform, A = |u|^2 stays at s1^2 m m_1, and W_V^T W_V, W_K^T W_K and
W_Q^T W_Q at s0^2 m times the identity. Let v_i be y_i times the counts of words in sentence i.

The loss. F_i is the sum of G over the words of sentence i, and G' = k c with
k = (s1^2 + s0^2) m m_1 and c = mean_i g_i v_i: logistic regression on counts of words. Its flow
turns to the direction of largest margin (Soudry et al. 2018): the shares g_i / sum g tend to the
alpha_i >= 0 of sum 1 that minimise |sum_i alpha_i v_i|^2. With gamma^2 for the minimum

    d(1/loss)/dt = k |c|^2 / loss^2 -> k gamma^2,

the constant of Theorem F.8. It is 1/17 for n/L -> infinity, and larger where random words help.

The scores. S' = M Q + K M = 2 s0^2 m M, where between words k and l of the same sentences
M_kl = mean_i g_i y_i (G_k - F_i/L) / (L sqrt m). To leading order in log(gamma^2 k t) all margins
are this logarithm, loss = 1/(gamma^2 k t) and G = (log/gamma^2) sum_i alpha_i v_i, so that

    S - S_0 -> s0^2 sqrt(m) log^2(gamma^2 k t) / (k L gamma^2) C,
    C_kl = sum_i alpha_i y_i (sum_j alpha_j v_jk / gamma^2 - y_i/L)

over the sentences i that have both words. Initialised as in Condition 1 it is of the order
1/m^(3/2), and m_1 does not matter.

What is left out is smaller by the inverse of the logarithm: where G starts, and that sentences of
one class still differ, which the largest coefficient of a random word shows. The alpha are the
same for all sentences of a class if no random word occurs twice (Assumption 2.3), and for both
classes of a single target.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from jaxtyping import Float

from .data import class_sizes

# Whether the special words occur in a sentence of the classes both, first, second, neither.
_HOLDS = np.array([[1, 1, 1], [1, 0, 1], [0, 1, 1], [0, 0, 1]], dtype=float)
_LABELS = np.array([1.0, -1.0, -1.0, -1.0])


@dataclass(frozen=True)
class Limit:
    """The limit for n sentences of `length` words, no random word of which occurs twice.

    Attributes:
        samples: n.
        length: L.
    """

    samples: int
    length: int

    @cached_property
    def weights(self) -> Float[np.ndarray, " 4"]:
        """The sums of alpha over the classes both, first, second and neither: they add to 1."""
        from scipy.optimize import nnls

        # The point of a simplex that is nearest to 0 has the direction of the least squares
        # solution in which the sum of the weights, free, is one more row that should be 1.
        special = _HOLDS.T * _LABELS
        random = np.diag(np.sqrt(self._random / self._counts))
        rows = np.vstack([special, random, np.ones(len(_LABELS))])
        found, _ = nnls(rows, np.append(np.zeros(len(rows) - 1), 1.0))
        return found / found.sum()

    @cached_property
    def squared_margin(self) -> float:
        """gamma^2, d(1/L)/dt in units of k."""
        random = self.weights**2 @ (self._random / self._counts)
        return float(self._responses @ self._responses + random)

    @cached_property
    def special(self) -> Float[np.ndarray, "key query"]:
        """C among the special words."""
        pairs = np.einsum("ik,il->ikl", _HOLDS, _HOLDS)
        signed = (self.weights * _LABELS)[:, None, None]
        excess = self._responses[:, None] / self.squared_margin - self._mean[:, None, None]
        return np.sum(pairs * signed * excess, axis=0)

    @cached_property
    def _random_entries(self) -> Float[np.ndarray, "2 class 4"]:
        """C of a sentence's pairs with a random word, and how many there are in its class.

        The last axis is of keys: the three special words, and the random words.
        """
        each = self.weights / self._counts
        keys = np.tile(self._responses, (len(_LABELS), 1))
        keys = np.column_stack([keys, _LABELS * each]) / self.squared_margin
        entries = (_LABELS * each)[:, None] * (keys - self._mean[:, None])
        # A special word with every random query; a random word with every query.
        random = self._counts * self._random
        counts = np.column_stack([_HOLDS * random[:, None], random * self.length])
        return np.stack([entries, counts])

    @cached_property
    def largest_random(self) -> float:
        """The largest size of an entry of C in a row or a column of a random word."""
        entries, counts = self._random_entries
        return float(np.abs(entries[counts > 0]).max(initial=0.0))

    @cached_property
    def norm(self) -> float:
        """|C| in the Frobenius norm, over all words."""
        entries, counts = self._random_entries
        return math.sqrt(np.sum(self.special**2) + np.sum(counts * entries**2))

    @property
    def _responses(self) -> Float[np.ndarray, " 3"]:
        """sum_i alpha_i v_i at the special words."""
        return (self.weights * _LABELS) @ _HOLDS

    @property
    def _mean(self) -> Float[np.ndarray, " class"]:
        """F_i/L of each class, in units of the logarithm."""
        return _LABELS / self.length

    @property
    def _counts(self) -> Float[np.ndarray, " class"]:
        """The sentences of each class."""
        return np.array(class_sizes(self.samples), dtype=float)

    @property
    def _random(self) -> Float[np.ndarray, " class"]:
        """The random words in a sentence of each class."""
        return self.length - _HOLDS.sum(axis=1)
