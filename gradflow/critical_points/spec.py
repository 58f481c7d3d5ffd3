"""What a configuration file can say of polishing."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from .._spec import Spec

Method = Literal["auto", "newton", "newton-cg", "levenberg-marquardt", "bfgs"]


class Polish(Spec):
    """How the critical point is found that a flow goes to; see `gradflow.polish`.

    Attributes:
        method: newton, whose Hessian is formed, newton-cg, levenberg-marquardt, which takes
            losses of samples, or bfgs; auto takes the first for up to 200 parameters and the
            second for more.
        gradient_norm: what the norm of the gradient is brought down to.
        max_steps: after which the search is given up.

    >>> Polish().gradient_norm
    1e-12
    """

    method: Method = "auto"
    gradient_norm: Annotated[float, Field(gt=0)] = 1e-12
    max_steps: Annotated[int, Field(gt=0, lt=2**31)] = 1000
