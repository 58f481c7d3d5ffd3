"""What a configuration file can say of polishing."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from .._spec import Spec
from ..problem import Problem

Method = Literal["auto", "newton", "newton-cg", "levenberg-marquardt", "bfgs"]


class Polish(Spec):
    """How the critical point is found that a flow goes to; see `gradflow.polish`.

    Attributes:
        method: newton, whose Hessian is formed, newton-cg, levenberg-marquardt, which takes
            losses of samples, or bfgs; auto takes the first for up to 200 parameters and the
            second for more.
        gradient_norm: what the norm of the gradient is brought down to.
        max_steps: after which the search is given up.

    >>> from gradflow.critical_points import Polish
    >>> Polish().gradient_norm
    1e-12
    """

    method: Method = "auto"
    gradient_norm: Annotated[float, Field(gt=0)] = 1e-12
    max_steps: Annotated[int, Field(gt=0, lt=2**31)] = 1000

    def check(self, problem: Problem) -> None:
        """Refuse a problem that has no such critical point.

        Raises:
            TypeError: a vector field, or losses of samples are needed and there are none.
        """
        if not problem.has_loss:
            raise TypeError(
                "a critical point is one of a loss, and this problem is a vector field; allowed: "
                "a problem that has a loss"
            )
        if self.method == "levenberg-marquardt" and not problem.has_samples:
            raise TypeError(
                "levenberg-marquardt takes the loss apart by samples, and this problem has no "
                "sample_loss; allowed: newton, newton-cg, bfgs, auto"
            )
