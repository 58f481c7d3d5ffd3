"""What is known of a critical point."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

_SHOWN = 5  # eigenvalues from either end

# Why the gradient could not be brought down, or may be so and yet be no critical point's.
REASONS = {
    "rounding": "rounding allows no smaller gradient",
    "max_steps": "max_steps steps did not suffice",
    "cancelled": "it was interrupted",
    "at infinity": (
        "no critical point at finite distance: the steps of Newton's method do not become shorter"
    ),
}


@dataclass(frozen=True)
class CriticalPoint:
    """A point where the gradient vanishes, as found by `gradflow.polish`.

    Attributes:
        params: the point, in the structure of the problem's own parameters.
        loss: there.
        gradient_norm: |grad L|_2 there.
        type: ``"minimum"``; ``"degenerate minimum"``, with flat directions, to second order;
            ``"saddle"``; ``"degenerate saddle"``, with flat directions too; ``"maximum"``;
            ``"minimum or degenerate"``, where no eigenvalue below zero was found and not all are
            known; ``"at infinity"``, where the flow has no limit; or ``"not converged"``.
        index: how many eigenvalues of the Hessian are negative; where not all are known, at least
            so many.
        flat: how many cannot be told from zero; ``None`` where not all are known.
        eigenvalues: of the Hessian, descending: all, for up to 2000 parameters, or Ritz values,
            of which the extreme ones are closest to eigenvalues.
        residuals: within this distance of each of them lies an eigenvalue.
        threshold: below this absolute value an eigenvalue counts as flat.
        distance: from where the search began.
        relative_distance: `distance` over how far the flow had come until then; ``None`` where
            that is nothing.
        heading_there: whether the flow goes to it from where the search began: see
            `gradflow.polish`. ``None`` where that could not be told, or not within reason.
        rate: at which the flow's gradient decays at last, the curvature of the slowest direction
            that is excited; ``None`` as `t_infinity` is.
        t_infinity: when the norm of the flow's gradient falls to what was asked for; ``None``
            where the flow does not get there exponentially.
        method: the one that was used.
        steps: tried.
        gradient_evaluations: spent in all, a Hessian-vector product as two.
        reason: why the gradient's norm is above what was asked for, a key of `REASONS`; empty
            where it is not.

    >>> import jax.numpy as jnp
    >>> import gradflow as gf
    >>> bowl = gf.Problem(lambda x, _: jnp.vdot(x, jnp.arange(3.0) * x), jnp.ones(3))
    >>> gf.polish(bowl).describe()
    'degenerate minimum with 1 flat direction'
    """

    params: Any
    loss: float
    gradient_norm: float
    type: str
    index: int
    flat: int | None
    eigenvalues: np.ndarray
    residuals: np.ndarray
    threshold: float
    distance: float
    relative_distance: float | None
    heading_there: bool | None
    rate: float | None
    t_infinity: float | None
    method: str
    steps: int
    gradient_evaluations: int
    reason: str = ""

    @property
    def found(self) -> bool:
        """Whether it is a critical point, to rounding."""
        return self.type not in ("at infinity", "not converged")

    @property
    def complete(self) -> bool:
        """Whether all eigenvalues of the Hessian are known."""
        return self.flat is not None

    @property
    def spectrum(self) -> dict[str, np.ndarray]:
        """The eigenvalues and their residuals by name, to be kept."""
        return {"eigenvalues": self.eigenvalues, "residuals": self.residuals}

    def describe(self) -> str:
        """Its type in words."""
        said = self.type
        if self.type.endswith("saddle"):
            said += f" of index {self.index}{'' if self.complete else ' at least'}"
        if self.found and self.flat:
            said += f" with {self.flat} flat direction{'s' if self.flat > 1 else ''}"
        return said

    def summary(self) -> dict[str, Any]:
        """The headline numbers, of JSON type: all but the parameters, and a few eigenvalues."""
        left_out = ("params", "eigenvalues", "residuals")
        numbers = {name: value for name, value in vars(self).items() if name not in left_out}
        return numbers | {
            "largest_eigenvalues": self.eigenvalues[:_SHOWN].tolist(),
            "smallest_eigenvalues": self.eigenvalues[::-1][:_SHOWN].tolist(),
        }

    def lines(self) -> list[str]:
        """All of it in plain words, for the command."""
        away = f"{self.distance:.3g} away"
        if self.relative_distance is not None:
            away += f", {self.relative_distance:.2g} times the way so far"
        said = [
            f"polished: {self.describe()}, loss {self.loss:.6g}, gradient norm "
            f"{self.gradient_norm:.2g}, {away}, {self.gradient_evaluations} gradient evaluations "
            f"with {self.method}"
        ]
        if self.reason:
            said.append(f"polished: {REASONS[self.reason]}")
        if self.heading_there is not None:
            elsewhere = "NOT heading there, but to somewhere else"
            said.append(
                f"polished: the flow was {'heading there' if self.heading_there else elsewhere}"
            )
        if self.t_infinity is not None:
            said.append(
                f"polished: its gradient decays at the rate {self.rate:.3g} in the end; "
                f"t_infinity = {self.t_infinity:.6g}"
            )
        return said

    def __repr__(self) -> str:
        return (
            f"CriticalPoint({self.describe()}, loss {self.loss:.6g}, gradient norm "
            f"{self.gradient_norm:.2g}, distance {self.distance:.3g}, "
            f"heading_there {self.heading_there}, t_infinity {self.t_infinity})"
        )
