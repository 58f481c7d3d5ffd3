"""What every vector field offers."""

from __future__ import annotations

import abc
from typing import TYPE_CHECKING, Any, ClassVar

import equinox as eqx
import jax
import numpy as np
from jaxtyping import Array, Float, PyTree

from .._spec import Spec
from ..problem import Problem


class AbstractField(eqx.Module):
    """A vector field on a state that contains a problem's parameters.

    A new field is a file with a final subclass, and with the spec that builds it where a
    configuration file is to name it: a row in `gradflow.fields.FIELDS`.

    Attributes:
        problem: the problem's functions (without its parameters and data).
        symmetric: whether the Jacobian of what is measured is symmetric.
        cost: gradient evaluations in one evaluation of the field, a Hessian-vector product
            counted as two.
        init_cost: gradient evaluations in `init`.
        gradient_cost: gradient evaluations in `gradient`.

    >>> import gradflow as gf
    >>> import optax
    >>> class Decay(gf.fields.AbstractField):  # params' = -params
    ...     problem: gf.Problem
    ...     symmetric = True
    ...     init = lambda self, params, data: params
    ...     __call__ = lambda self, t, state, data: -state
    ...     measured = params = staticmethod(lambda state: state)
    ...     dissipated = staticmethod(lambda state: None)
    ...     gradient = energy = lambda self, state, other, data: None
    >>> field = Decay(gf.Problem(optax.l2_loss, 1.0, 0.0).bare())
    >>> field(0.0, field.init(2.0, None), None), field.cost
    (-2.0, 1)
    """

    problem: eqx.AbstractVar[Problem]
    symmetric: ClassVar[bool]
    cost: ClassVar[int] = 1
    init_cost: ClassVar[int] = 0
    gradient_cost: ClassVar[int] = 0

    @abc.abstractmethod
    def init(self, params: PyTree, data: PyTree) -> PyTree:
        """The state that a run starts from at `params`."""

    @abc.abstractmethod
    def __call__(self, t: Float[Array, ""], state: PyTree, data: PyTree) -> PyTree:
        """The time derivative of the state."""

    @staticmethod
    @abc.abstractmethod
    def measured(state: PyTree) -> PyTree:
        """The part of a state, or of a slope, whose error is bounded."""

    @staticmethod
    @abc.abstractmethod
    def params(state: PyTree) -> PyTree:
        """The parameters in a state, or their time derivative in a slope."""

    @staticmethod
    @abc.abstractmethod
    def dissipated(state: PyTree) -> Float[Array, ""] | None:
        """How much energy is gone since the start; ``None`` where there is no energy."""

    @abc.abstractmethod
    def gradient(self, state: PyTree, slope: PyTree, data: PyTree) -> PyTree | None:
        """grad L, up to its sign, at a state and its slope; ``None`` where it is the slope."""

    @abc.abstractmethod
    def energy(self, state: PyTree, gradient: PyTree, data: PyTree) -> Float[Array, ""] | None:
        """What the field dissipates; ``None`` where that is the loss, or where there is none.

        `gradient` is what `gradient` said, so that no other need be evaluated.
        """


class FieldSpec(Spec, abc.ABC):
    """Names a field and says what it depends on.

    Subclasses have a field ``kind``, a literal by which configuration files choose them.

    >>> import gradflow as gf
    >>> import optax
    >>> from typing import Literal
    >>> class Plain(gf.fields.FieldSpec):
    ...     kind: Literal["plain"] = "plain"
    ...     def build(self, problem):
    ...         return gf.fields.GradientFlow(problem.bare())
    >>> Plain().build(gf.Problem(optax.l2_loss, 1.0, 0.0)).symmetric
    True
    """

    if TYPE_CHECKING:
        kind: str

    @abc.abstractmethod
    def build(self, problem: Problem) -> Any:
        """The field of `problem`."""


def number(value: float, problem: Problem) -> Float[Array, ""]:
    """`value` as an argument of compiled programs, which another value does not compile again."""
    return jax.device_put(np.asarray(value, problem.dtype))
