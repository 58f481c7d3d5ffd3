"""The field of a problem that was given as a vector field."""

from __future__ import annotations

from typing import ClassVar

from jaxtyping import Array, Float, PyTree

from ..problem import Problem
from .field import AbstractField


class OwnField(AbstractField):
    """The vector field of a problem that was given as one; its state is the parameters alone.

    Attributes:
        problem: the problem's functions.

    >>> import gradflow as gf
    >>> problem = gf.Problem(vector_field=lambda t, y, data: -3.0 * y, params=2.0)
    >>> float(gf.fields.OwnField(problem.bare())(0.0, problem.params, problem.data))
    -6.0
    """

    problem: Problem

    symmetric: ClassVar[bool] = False  # as far as anyone knows

    def init(self, params: PyTree, data: PyTree) -> PyTree:
        """The state that `params` start from: themselves."""
        del data
        return params

    def __call__(self, t: Float[Array, ""], state: PyTree, data: PyTree) -> PyTree:
        """The time derivative of the state."""
        return self.problem.vector_field(t, state, data)

    @staticmethod
    def measured(state: PyTree) -> PyTree:
        """All of it."""
        return state

    @staticmethod
    def params(state: PyTree) -> PyTree:
        """All of it."""
        return state

    @staticmethod
    def dissipated(state: PyTree) -> None:
        """Without a loss nothing is known of an energy."""

    def gradient(self, state: PyTree, slope: PyTree, data: PyTree) -> None:
        """Without a loss there is none; the slope stands for it."""

    def energy(self, state: PyTree, gradient: PyTree, data: PyTree) -> None:
        """Without a loss there is none."""
