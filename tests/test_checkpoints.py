"""States on disk: the same bits back, nothing lost by one damaged file, nothing written twice."""

import errno
import os
import time
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import gradflow as gf
from gradflow import storage
from gradflow._packing import packed, unpacked
from gradflow.storage import Checkpoints, Finished, OtherRunError, trees
from gradflow.trajectory import Trajectory, Variable

IDENTITY = {"rtol": 1e-4, "save": {"kind": "linear", "count": 3}, "rates": (0.1, 0.2)}


def record(rows, result="unfinished"):
    """Two sets of times, of which one has a row for every second of the other's."""
    half = rows // 2
    variables = {
        "loss": Variable(np.sin(np.arange(rows)), ("time",), "loss"),
        "right": Variable(np.arange(rows) > 1, ("time",), "whether it is right"),
        "score": Variable(np.arange(4.0 * half).reshape(-1, 2, 2), ("time_s", "a", "b"), "s", "m"),
    }
    coords = {"time": np.arange(rows) / 7, "time_s": np.arange(half) / 3, "a": np.array([1, 2]),
              "b": np.array(["x", "y"])}  # fmt: skip
    crossings = {"turn": np.array([[0.5, -1.0]] * half), "never": np.empty((0, 2))}
    stats = {"solver": "tsit5", "spread": np.float64(0.1), "nothing": None}
    return Trajectory(variables, coords, rows / 3, stats, result, crossings=crossings,
                      event_values={"turn": -np.inf})  # fmt: skip


def state(rows=4, seeds=1):
    done = {str(i): {"run": record(i + 2, "end_time"), "n": i} for i in range(seeds)}
    return {
        "flow": {"record": record(rows), "carry": [np.arange(rows) / 3, np.array(np.nan)]},
        "seeds": Finished(done),
        "texts": ["a", {"b": (1, 2.5, None, True)}],
    }  # fmt: skip


def check_record(found, expected):
    assert list(found) == list(expected)
    for name, variable in expected.variables.items():
        other = found.variables[name]
        assert (other.dims, other.label, other.units) == (
            variable.dims, variable.label, variable.units,
        )  # fmt: skip
        assert other.values.dtype == variable.values.dtype
        np.testing.assert_array_equal(other.values, variable.values)
    for axis, labels in expected.coords.items():
        np.testing.assert_array_equal(found.coords[axis], labels)
    for name, rows in expected.crossings.items():
        np.testing.assert_array_equal(found.crossings[name], rows)
    assert found.event_values == expected.event_values
    assert found.stats == expected.stats
    assert (found.final_time, found.result) == (expected.final_time, expected.result)


def check(found, expected):
    check_record(found["flow"]["record"], expected["flow"]["record"])
    for a, b in zip(found["flow"]["carry"], expected["flow"]["carry"], strict=True):
        assert (a.dtype, a.shape, a.tobytes()) == (b.dtype, b.shape, b.tobytes())
    assert list(found["seeds"]) == list(expected["seeds"])
    for name, seed in expected["seeds"].items():
        assert found["seeds"][name]["n"] == seed["n"]
        check_record(found["seeds"][name]["run"], seed["run"])
    assert found["texts"] == ["a", {"b": [1, 2.5, None, True]}]


def written(folder, *sizes, **options):
    """States of so many rows and seeds, one after the other."""
    kept = Checkpoints(folder, **options)
    assert kept.begin(IDENTITY) is None
    for size in sizes:
        kept.keep(lambda size=size: state(*size), now=True)
    return kept


def test_a_state_comes_back_and_goes_on(tmp_path):
    """Whoever reads it goes on with it: the new rows and seeds alone are written."""
    written(tmp_path, (4, 1), (6, 2))
    kept = Checkpoints(tmp_path)
    check(kept.begin(IDENTITY), state(6, 2))
    kept.keep(lambda: state(7, 4), now=True)
    names = sorted(path.name for path in tmp_path.iterdir())
    assert names == [
        "000001-flow.nc", "000001-seeds.npz", "000002-flow.nc", "000002-seeds.npz", "000002.npz",
        "000003-flow.nc", "000003-seeds.npz", "000003.npz",
    ]  # fmt: skip
    assert len(storage.read_trajectory(tmp_path / "000003-flow.nc").time) == 1
    check(Checkpoints(tmp_path).begin(IDENTITY), state(7, 4))


def test_what_is_written_is_not_touched_again(tmp_path):
    kept = written(tmp_path, (4, 1))
    rows = {path: path.read_bytes() for path in tmp_path.glob("*-*")}
    for size in ((6, 2), (6, 2), (9, 3)):
        kept.keep(lambda size=size: state(*size), now=True)
    assert rows == {path: path.read_bytes() for path in rows}
    # The state in which nothing was new has no such file.
    assert not list(tmp_path.glob("000003-*"))
    assert [path.name for path in sorted(tmp_path.glob("*[0-9].npz"))] == [
        "000003.npz", "000004.npz",
    ]  # fmt: skip
    kept.clear()
    assert not tmp_path.exists()


def test_more_states_are_left_when_asked_for(tmp_path):
    written(tmp_path, *[(n, 1) for n in range(3, 9)], keep=4)
    assert len(list(tmp_path.glob("00000?.npz"))) == 4


DAMAGES = {
    "truncated": lambda path: path.write_bytes(path.read_bytes()[:-100]),
    "empty": lambda path: path.write_bytes(b""),
    "one bit": lambda path: path.write_bytes(flipped(path.read_bytes())),
    "gone": Path.unlink,
}


def flipped(content):
    """In the middle, where the arrays are."""
    middle = len(content) // 2
    return content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :]


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("file", ["000002.npz", "000002-flow.nc", "000002-seeds.npz"])
def test_where_the_latest_is_damaged_the_one_before_is_taken(damage, file, tmp_path):
    written(tmp_path, (4, 1), (6, 2))
    DAMAGES[damage](tmp_path / file)
    kept = Checkpoints(tmp_path)
    if file == "000002.npz" and damage == "gone":
        found = kept.begin(IDENTITY)
    else:
        told = rf"{file} (is damaged: .*|does not exist); going back to the one before it"
        with pytest.warns(gf.CheckpointWarning, match=told):
            found = kept.begin(IDENTITY)
    check(found, state(4, 1))
    assert not list(tmp_path.glob("000002*"))
    kept.keep(lambda: state(7, 2), now=True)
    check(Checkpoints(tmp_path).begin(IDENTITY), state(7, 2))


def test_where_all_are_damaged_the_run_begins_anew(tmp_path):
    written(tmp_path, (4, 1), (6, 2))
    DAMAGES["one bit"](tmp_path / "000001-flow.nc")
    kept = Checkpoints(tmp_path)
    with pytest.warns(gf.CheckpointWarning) as told:
        assert kept.begin(IDENTITY) is None
    assert [str(one.message).split("; ")[1] for one in told] == [
        "going back to the one before it", "no other is left, so the run begins anew",
    ]  # fmt: skip
    assert not list(tmp_path.iterdir())
    assert kept.latest() is None


def test_the_state_of_another_run_is_refused_by_its_keys(tmp_path):
    written(tmp_path, (4, 1))
    other = IDENTITY | {"rtol": 1e-5, "certify": True}
    with pytest.raises(OtherRunError) as caught:
        Checkpoints(tmp_path).begin(other)
    assert caught.value.keys == ("rtol", "certify")
    assert "rtol was 0.0001 and is 1e-05, certify was None and is True" in str(caught.value)
    check(Checkpoints(tmp_path).begin(IDENTITY), state(4, 1))


def test_of_a_later_version(tmp_path, monkeypatch):
    with monkeypatch.context() as then:
        then.setattr(storage.checkpoints, "_FORMAT", 2)
        written(tmp_path, (4, 1))
    with pytest.warns(gf.CheckpointWarning, match="is of another version"):
        assert Checkpoints(tmp_path).begin(IDENTITY) is None


@pytest.mark.parametrize("file", ["000002.npz", "000002-flow.nc"])
def test_a_full_disk_does_not_end_the_run(file, tmp_path, monkeypatch):
    """The state before stays, and where there is room again the next is written."""
    kept = written(tmp_path, (4, 1))
    replace = os.replace

    def full(source, target):
        if Path(target).name == file:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        replace(source, target)

    with monkeypatch.context() as then:
        then.setattr(os, "replace", full)
        told = rf"cannot write the checkpoint .*{file}: no space left on device; the run goes on"
        with pytest.warns(gf.CheckpointWarning, match=told):
            kept.keep(lambda: state(6, 2), now=True)
    check(Checkpoints(tmp_path).latest(), state(4, 1))
    kept.keep(lambda: state(6, 2), now=True)
    check(Checkpoints(tmp_path).begin(IDENTITY), state(6, 2))


class Clock:
    """Stands in for `time`; what is written takes `cost` seconds."""

    def __init__(self, cost):
        self.now, self.cost = 100.0, cost

    def perf_counter(self):
        return self.now

    def state(self):
        self.now += self.cost
        return state()


@pytest.mark.parametrize(("cost", "every"), [(0.0, 30.0), (0.5, 30.0), (2.0, 100.0)])
def test_how_often(cost, every, tmp_path, monkeypatch):
    """Every half minute, but for not more than 2 % of the time."""
    clock = Clock(cost)
    monkeypatch.setattr(storage.checkpoints, "clock", clock)
    kept = Checkpoints(tmp_path)
    kept.begin(IDENTITY)
    moments = []
    for _ in range(1000):
        clock.now += 1.0
        before, at = kept.number, clock.now
        kept.keep(clock.state)
        if kept.number > before:
            moments.append(at)
    assert moments[0] == 130.0
    gaps = np.diff(moments) - cost
    assert len(gaps) >= 9
    assert (abs(gaps - every) <= 1.0).all()


def test_clocks_that_jump_change_nothing(tmp_path, monkeypatch):
    """Neither the time of day nor the files' times say which state is the latest."""
    jumps = iter([1e9, 1.0, 2e9, 0.0] * 10)
    monkeypatch.setattr(time, "time", lambda: next(jumps))
    written(tmp_path, (4, 1), (6, 2))
    os.utime(tmp_path / "000001.npz", (4e9, 4e9))
    check(Checkpoints(tmp_path).begin(IDENTITY), state(6, 2))


def test_the_last_state_is_the_last(tmp_path):
    """What is ended from outside is kept before it is ended, and not as what becomes of it."""
    kept = written(tmp_path, (4, 1))
    kept.keep(lambda: state(6, 2), last=True)
    kept.keep(lambda: pytest.fail("it was ended"), now=True)
    check(kept.begin(IDENTITY), state(6, 2))


def test_every_kind_of_array_is_packed():
    tree = {
        "half": jnp.arange(3, dtype=jnp.bfloat16), "key": jax.random.split(jax.random.key(3)),
        "old key": jax.random.PRNGKey(1), "empty": jnp.zeros((0, 2), jnp.int32), "kept": "text",
        "function": jnp.tanh,
    }  # fmt: skip
    found = unpacked(packed(tree), tree)
    assert (found["kept"], found["function"]) == ("text", jnp.tanh)
    draws = (jax.random.normal(t["key"][1], 2).tolist() for t in (tree, found))
    assert next(draws) == next(draws)
    for name in ("half", "old key", "empty"):
        assert found[name].dtype == tree[name].dtype
        assert found[name].tolist() == tree[name].tolist()
    with pytest.raises(ValueError, match="3 arrays for 4 places"):
        unpacked(packed(tree)[1:], tree)
    with pytest.raises(ValueError, match=r"float64 of shape \(2,\) for float64 of shape \(3,\)"):
        unpacked([np.zeros(2)], jnp.zeros(3))


def test_a_fingerprint_is_that_of_the_values():
    """Of functions among the leaves nothing is known from one process to the next."""
    model = {"w": jnp.ones(3), "act": jnp.tanh}
    same = storage.digest(model)
    assert storage.digest({"w": np.ones(3), "act": jnp.sin}) == same
    others = ({"w": jnp.ones(3, jnp.float32)}, {"v": jnp.ones(3)}, {"w": jnp.ones((1, 3))})
    for other in (*others, {"w": jnp.ones(3).at[1].add(1e-15)}):
        assert storage.digest(other) != same


def test_a_state_that_does_not_fit_is_refused(tmp_path):
    """As one that another version has left; what was wrong with it is told."""
    problem = gf.Problem(lambda w, data: 0.5 * w**2, 1.0)
    gf.solve(problem, t1=2.0, checkpoints=tmp_path, cancelled=lambda: True)
    kept = Checkpoints(tmp_path)
    left = kept.latest()
    left["flow"]["carry"] = left["flow"]["carry"][1:]
    kept.begin(left["identity"])
    kept.keep(lambda: left, now=True)
    with pytest.raises(OtherRunError, match=r"do not fit.*: \d+ arrays for \d+ places; allowed"):
        gf.solve(problem, t1=2.0, checkpoints=tmp_path)


def test_whatever_is_damaged_is_told_as_that(tmp_path):
    """Each byte of where a state's parts lie is damaged; NumPy and zipfile raise what they like."""
    path = tmp_path / "state.npz"
    trees.write_tree(path, {"a": np.arange(3.0), "b": [np.ones(2), 1]})
    whole = path.read_bytes()
    for place in range(len(whole)):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 0xFF]) + whole[place + 1 :])
        try:
            trees.read_tree(path)
        except storage.StorageError as error:
            assert f"{path} is damaged: " in str(error)  # noqa: PT017
