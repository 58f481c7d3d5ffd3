"""Rows of what is recorded along a descent, at whole steps."""

from __future__ import annotations

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, PyTree

from .._devices import fetched
from .._linalg import tree_finite
from .._packing import packed, unpacked
from ..fields import GradientFlow, GradientState
from ..problem import Problem
from ..recording import Group, Recorder
from .stepping import Carry


def nearest_steps(times: np.ndarray, learning_rate: float, most: int) -> np.ndarray:
    """The steps whose own times are nearest to `times`, each once, ascending, none after `most`."""
    steps = np.rint(np.asarray(times, float) / learning_rate)
    return np.unique(np.minimum(steps, most)).astype(np.int64)


class Rows:
    """The rows of one group.

    Args:
        problem: what is observed.
        group: what is recorded, and when.
        learning_rate: the time of a step.
        most: the last step.
        end: of the save times.

    Attributes:
        group: as given.
        evaluations: gradients evaluated for rows, also for one that was not finite and not kept.
    """

    def __init__(self, problem: Problem, group: Group, learning_rate: float, most: int, end: float):
        self.group, self.evaluations = group, 0
        self._wanted = nearest_steps(group.save.build(end), learning_rate, most).tolist()
        self._steps: list[int] = []
        self._values: list[PyTree] = []
        self._learning_rate, self._data = learning_rate, problem.data
        bare = problem.bare()
        readings = tuple(o.reading for o in group.observables)
        self._recorder = Recorder(bare, GradientFlow(bare), problem.params, readings)
        self._memory: tuple[PyTree, ...] | None = None

    @property
    def due(self) -> int | None:
        """The step at which the next row is recorded; ``None`` if there is none to come."""
        done = len(self._steps)
        return self._wanted[done] if done < len(self._wanted) else None

    @property
    def steps(self) -> np.ndarray:
        """The steps of the rows so far."""
        return np.asarray(self._steps, np.int64)

    @property
    def loss(self) -> float | None:
        """The loss as it was last recorded, if it is recorded here."""
        names = [o.name for o in self.group.observables]
        if "loss" not in names or not self._values:
            return None
        return float(self._values[-1][names.index("loss")])

    def at_start(self, name: str) -> float | None:
        """A scalar at step 0, if it is recorded here."""
        if self._steps[:1] != [0]:
            return None
        for observable, value in zip(self.group.observables, self._values[0], strict=True):
            parts = value if observable.parts else (value,)
            for part, one in zip(observable.variables, parts, strict=True):
                if part.name == name and one.ndim == 0:
                    return float(one)
        return None

    def record(self, step: int, carry: Carry) -> bool:
        """One row more, unless parameters, loss or gradient are not finite: then false."""
        moment = self._moment(step, carry)
        if self._memory is None:
            self._begin(moment)
        values, memory, finite = _row(*moment, self._memory)
        self.evaluations += 1
        if not bool(finite):
            return False
        self._memory = memory
        # Not kept on the device: thousands of small buffers take more room than their contents.
        self._values.append(fetched(values))
        self._steps.append(step)
        return True

    def _moment(self, step: int, carry: Carry) -> tuple[Recorder, Array, PyTree, PyTree]:
        dtype = jax.tree.leaves(carry.params)[0].dtype
        time = jax.device_put(np.asarray(step * self._learning_rate, dtype))
        return self._recorder, time, carry.params, self._data

    def _begin(self, moment: tuple[Recorder, Array, PyTree, PyTree]) -> None:
        """The memories before the first row."""
        readings = self._recorder.readings
        remembers = any(r.memory is not None for r in readings)
        self._memory = _begin(*moment) if remembers else (None,) * len(readings)

    def close(self, step: int, carry: Carry) -> None:
        """A last row where the run ended before it was due."""
        if self.due is not None and (not self._steps or self._steps[-1] < step):
            self.record(step, carry)

    def values(self) -> list[PyTree[np.ndarray]]:
        """Of each observable its rows, time first."""
        if not self._values:
            return self._nothing()
        columns = zip(*self._values, strict=True)
        return [jax.tree.map(lambda *r: np.stack(r), *column) for column in columns]

    def state(self) -> dict[str, Any]:
        """What `restore` goes on from, beside the rows themselves."""
        return {
            "steps": self.steps,
            "evaluations": self.evaluations,
            "memory": None if self._memory is None else packed(self._memory),
        }

    def restore(self, state: dict[str, Any], rows: list[np.ndarray], carry: Carry) -> None:
        """Go on from a state and its rows, the arrays of all observables in order."""
        self._steps = state["steps"].tolist()
        self.evaluations = state["evaluations"]
        if state["memory"] is not None:
            self._begin(self._moment(0, carry))
            self._memory = unpacked(state["memory"], self._memory)
        structure = jax.tree.structure(self._nothing())
        self._values = [
            tuple(jax.tree.unflatten(structure, [values[i] for values in rows]))
            for i in range(len(self._steps))
        ]

    def _nothing(self) -> list[PyTree[np.ndarray]]:
        """No rows, in the shapes that they would have."""

        def row(origin, data):
            zero = jnp.zeros((), jax.tree.leaves(origin)[0].dtype)
            moment = (self._recorder, zero, origin, data)
            return _row(*moment, _begin(*moment))[0]

        shapes = eqx.filter_eval_shape(row, self._recorder.origin, self._data)
        return list(jax.tree.map(lambda x: np.zeros((0, *x.shape), x.dtype), shapes))


def _state(recorder: Recorder, time, params, data):
    state = GradientState(params, jnp.zeros_like(time))  # not known, and not recorded
    field: Any = recorder.field
    return state, field(time, state, data)


@eqx.filter_jit
def _begin(recorder: Recorder, time, params, data) -> tuple[PyTree, ...]:
    """The memories before the first row."""
    return recorder.begin(time, *_state(recorder, time, params, data), data)


@eqx.filter_jit
def _row(
    recorder: Recorder, time, params, data, memory
) -> tuple[tuple[PyTree[Array], ...], tuple[PyTree, ...], Array]:
    """A row, the memories for the next, and whether all is finite; one gradient."""
    state, slope = _state(recorder, time, params, data)
    values, memory = recorder(time, state, slope, data, memory)
    # The slope's own rate is not a number where the loss is not finite.
    finite = ~jnp.isnan(slope.dissipated) & tree_finite((slope.params, params))
    return values, memory, finite
