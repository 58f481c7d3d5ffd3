"""What is read off a step: rows at the save times, and where events cross zero."""

from __future__ import annotations

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, PyTree

from .._linalg import tree_select

PROBES = 4  # points of each step at which events are looked at, its end among them
HALVINGS = 30  # of a probe's interval: far below the error of the trajectory
MAX_CROSSINGS = 64  # of each event; the latest are kept


class Records(eqx.Module):
    """One set of save times: how many rows are filled, their times, and the rows.

    `memory` is what the recorder goes on from at the next row.
    """

    filled: Int[Array, ""]
    times: Float[Array, " n"]
    values: PyTree[Array]
    memory: PyTree

    def with_row(self, recorder, time: Float[Array, ""], state, slope, data) -> Records:
        """One row more."""
        row = self.filled
        values, memory = recorder(time, state, slope, data, self.memory)
        return Records(
            row + 1,
            self.times.at[row].set(time),
            jax.tree.map(lambda rows, v: rows.at[row].set(v), self.values, values),
            memory,
        )

    def replaced(self, times: np.ndarray, values: list[np.ndarray]) -> dict[str, PyTree]:
        """Its ``times`` and ``values`` with the first rows as given, of which it may have none."""

        def filled(room: Array, rows: np.ndarray) -> Array:
            whole = np.array(room)
            whole[: len(rows)] = rows
            return jax.device_put(whole)

        leaves, structure = jax.tree.flatten(self.values)
        every = [filled(room, rows) for room, rows in zip(leaves, values, strict=True)]
        return {
            "times": filled(self.times, times),
            "values": jax.tree.unflatten(structure, every),
        }


class Crossings(eqx.Module):
    """Zero crossings of the events: how many so far, and the latest as (time, direction)."""

    counts: Int[Array, " E"]
    rows: Float[Array, "E MAX_CROSSINGS 2"]
    last: Float[Array, " E"]


def empty(recorder, save_times, t0, state, slope, data) -> Records:
    """Rows for all the save times, none of them filled."""
    # Fresh buffers, as the state's: the first memory may be the problem's own parameters.
    memory = jax.tree.map(jnp.copy, recorder.begin(t0, state, slope, data))
    values, _ = eqx.filter_eval_shape(recorder, t0, state, slope, data, memory)
    return Records(
        jnp.zeros((), jnp.int32),
        jnp.full(save_times.shape, jnp.nan, save_times.dtype),
        jax.tree.map(lambda x: _unfilled((save_times.size, *x.shape), x.dtype), values),
        memory,
    )


def _unfilled(shape: tuple[int, ...], dtype) -> Array:
    return jnp.full(shape, jnp.nan if jnp.issubdtype(dtype, jnp.inexact) else 0, dtype)


def record(recorder, save_times, records: Records, t, ends, at, data) -> Records:
    """Fill the rows of the save times passed; where the run ends early, one more for the end."""
    n = save_times.size

    def target(records: Records) -> tuple[Bool[Array, ""], Array]:
        row = jnp.minimum(records.filled, n - 1)
        due = save_times[row] <= t
        previous = records.times[jnp.maximum(records.filled - 1, 0)]
        last = ends & ~due & ~(previous >= t)
        return (records.filled < n) & (due | last), jnp.where(due, save_times[row], t)

    def fill(records: Records) -> Records:
        _, time = target(records)
        state, slope = at(time)
        return records.with_row(recorder, time, state, slope, data)

    def fill_all(records: Records) -> Records:
        return jax.lax.while_loop(lambda r: target(r)[0], fill, records)

    # Few steps have a row. A loop that ends at once still has the whole step handed to it, which
    # took a fifth of the time of all steps where each lasts as long as three small gradients.
    return jax.lax.cond(target(records)[0], fill_all, lambda r: r, records)


class _Search(eqx.Module):
    """Where the search for crossings in one step is.

    Probe by probe; where an event has changed sign since the last one it is `pending`, and the
    interval between the two is halved for each of them in turn.
    """

    crossings: Crossings
    probe: Int[Array, ""]
    before: Float[Array, " E"]
    pending: Bool[Array, " E"]
    halvings: Int[Array, ""]
    left: Float[Array, ""]
    right: Float[Array, ""]


def locate(watch, crossings: Crossings, t0, t1, keep, at, data) -> Crossings:
    """Locate the sign changes of every event in the step just taken, by bisection.

    One loop for probes and halvings, so that the events are compiled only once.
    """
    h = (t1 - t0) / PROBES

    def unfinished(search: _Search) -> Bool[Array, ""]:
        return (search.probe < PROBES) | jnp.any(search.pending)

    def look(search: _Search) -> _Search:
        halving = jnp.any(search.pending)
        middle = search.left + (search.right - search.left) / 2
        time = jnp.where(halving, middle, t0 + (search.probe + 1).astype(h.dtype) * h)
        values = watch(time, *at(time), data)
        return tree_select(halving, halve(search, time, values), step(search, time, values))

    def step(search: _Search, time, values) -> _Search:
        before = search.crossings.last
        return _Search(
            crossings=eqx.tree_at(lambda c: c.last, search.crossings, values),
            probe=search.probe + 1,
            before=before,
            pending=jnp.sign(values) != jnp.sign(before),
            halvings=jnp.zeros_like(search.halvings),
            left=time - h,
            right=time,
        )

    def halve(search: _Search, time, values) -> _Search:
        event = jnp.argmax(search.pending)
        unchanged = jnp.sign(values[event]) == jnp.sign(search.before[event])
        left = jnp.where(unchanged, time, search.left)
        right = jnp.where(unchanged, search.right, time)
        found = search.halvings + 1 == HALVINGS
        crossings = tree_select(found, _note(search.crossings, event, right), search.crossings)
        end = t0 + search.probe.astype(h.dtype) * h
        return _Search(
            crossings=crossings,
            probe=search.probe,
            before=search.before,
            pending=search.pending.at[event].set(~found),
            halvings=jnp.where(found, 0, search.halvings + 1),
            left=jnp.where(found, end - h, left),
            right=jnp.where(found, end, right),
        )

    # A refused step has nothing to look at.
    begin = jnp.where(keep, 0, PROBES).astype(jnp.int32)
    last = crossings.last
    idle = jnp.zeros_like(last, dtype=bool)
    search = _Search(crossings, begin, last, idle, jnp.zeros_like(begin), h, h)
    return jax.lax.while_loop(unfinished, look, search).crossings


def _note(crossings: Crossings, event, time) -> Crossings:
    """One more crossing; the oldest gives way where there are too many."""
    row = jnp.stack([time, jnp.sign(crossings.last[event]).astype(time.dtype)])
    slot = crossings.counts[event] % MAX_CROSSINGS
    return Crossings(
        crossings.counts.at[event].add(1), crossings.rows.at[event, slot].set(row), crossings.last
    )
