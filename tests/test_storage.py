"""Runs on disk: whole files or none, and what is read is what was written."""

import errno
import json
import os
import resource
from pathlib import Path

import numpy as np
import pytest
import xarray
from command import listing

import gradflow as gf
from gradflow import storage
from gradflow.storage import StorageError
from gradflow.trajectory import Trajectory, Variable

MANIFEST = {"versions": {"gradflow": "0"}}


def trajectory(rows: int = 4) -> Trajectory:
    """A made-up run with everything that a trajectory may hold."""
    rng = np.random.default_rng(0)
    loss = rng.normal(size=rows)
    loss[-1:] = np.nan
    return Trajectory(
        variables={
            "loss": Variable(loss, ("time",), "training loss"),
            "speed": Variable(rng.normal(size=rows).astype(np.float32), ("time",), "speed", "days"),
            "steps": Variable(np.arange(rows, dtype=np.int32), ("time",), "steps"),
            "right": Variable(np.arange(rows) > 1, ("time",), "whether it is right"),
            "class_loss": Variable(rng.normal(size=(rows, 2)), ("time", "class"), "loss"),
            "score": Variable(rng.normal(size=(3, 2, 2)), ("time_score", "word", "other"), "s"),
            "never": Variable(np.empty((0, 2)), ("time_never", "word"), "never recorded"),
        },
        coords={
            "time": np.linspace(0.0, 1.0, rows),
            "time_score": np.array([0.0, 0.1, 1.0]),
            "time_never": np.empty(0),
            "class": np.array(["both", "neither"]),
            "word": np.array([1, 3]),
            "other": np.array([1, 3]),
        },
        final_time=1 / 3,
        stats={"gradient_evaluations": 7, "solver": "tsit5", "wall_seconds": 0.1},
        result="step_limit",
        crossings={"margin": np.array([[0.1, 1.0], [0.2, -1.0]]), "order": np.empty((0, 2))},
        event_values={"margin": -0.5, "order": np.nan, "edge": -np.inf},
        attrs={"seed": 3, "tags": ["a", None]},
    )


@pytest.mark.parametrize("rows", [4, 1, 0])
def test_a_trajectory_is_read_as_it_was_written(rows, tmp_path):
    before = trajectory(rows)
    storage.write_trajectory(tmp_path / "flow.nc", before)
    after = storage.read_trajectory(tmp_path / "flow.nc")
    assert list(after.variables) == list(before.variables)
    for name, variable in before.variables.items():
        found = after.variables[name]
        assert (found.dims, found.label, found.units) == (
            variable.dims,
            variable.label,
            variable.units,
        )
        assert found.values.dtype == variable.values.dtype
        np.testing.assert_array_equal(found.values, variable.values)
    assert set(after.coords) == set(before.coords)
    for name, labels in before.coords.items():
        assert after.coords[name].dtype == labels.dtype
        np.testing.assert_array_equal(after.coords[name], labels)
    for name, rows_of_it in before.crossings.items():
        np.testing.assert_array_equal(after.crossings[name], rows_of_it)
    np.testing.assert_equal(after.event_values, before.event_values)
    for name in ("final_time", "stats", "result", "attrs"):
        assert getattr(after, name) == getattr(before, name)
    assert after.final_params is None
    np.testing.assert_array_equal(
        after.sel("class_loss", **{"class": "neither"}), before["class_loss"][:, 1]
    )


def test_any_reader_of_netcdf_understands_it(tmp_path):
    storage.write_trajectory(tmp_path / "flow.nc", trajectory())
    with xarray.open_dataset(tmp_path / "flow.nc", decode_times=False) as dataset:
        assert dataset["class_loss"].sel({"class": "both"}).dims == ("time",)
        assert dataset["time"].attrs == {"long_name": "time", "units": "1"}
        assert dataset["speed"].attrs == {"long_name": "speed", "units": "days"}
        assert dataset["score"].coords["time_score"].values.tolist() == [0.0, 0.1, 1.0]


def test_a_long_record_fits(tmp_path):
    """More crossings than the 64 KiB that an attribute of fixed length may have."""
    rows = np.stack([np.arange(9000) / 7, np.ones(9000)], axis=1)
    made = Trajectory({}, {"time": np.empty(0)}, 1.0, {}, "end_time", crossings={"often": rows})
    storage.write_trajectory(tmp_path / "flow.nc", made)
    found = storage.read_trajectory(tmp_path / "flow.nc")
    np.testing.assert_array_equal(found.crossings["often"], rows)


# Whole or not at all.


class _Broken(Exception):
    pass


@pytest.mark.parametrize("error", [_Broken, KeyboardInterrupt, PermissionError(13, "denied")])
def test_a_writer_that_fails_leaves_the_old_file_and_no_litter(error, tmp_path):
    def fail(beside):
        beside.write_bytes(b"half of")
        raise error

    path = tmp_path / "file"
    storage.write(path, b"old")
    with pytest.raises(type(error) if isinstance(error, OSError) else error):
        storage.write(path, fail)
    assert listing(tmp_path) == {"file": b"old"}
    storage.write(path, lambda beside: beside.write_bytes(b"new") and None)
    assert listing(tmp_path) == {"file": b"new"}


@pytest.mark.parametrize("call", ["fsync", "replace"])
def test_the_error_names_the_file_that_was_meant(call, tmp_path, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, call, full)
    with pytest.raises(OSError, match="No space left") as caught:
        storage.write(tmp_path / "file", b"new")
    assert (caught.value.errno, caught.value.filename) == (errno.ENOSPC, str(tmp_path / "file"))
    assert listing(tmp_path) == {}


def test_the_old_bytes_are_there_until_the_new_are_on_the_disk(tmp_path, monkeypatch):
    seen = []
    fsync = os.fsync

    def look(handle):
        seen.append((tmp_path / "file").read_bytes())
        fsync(handle)

    monkeypatch.setattr(os, "fsync", look)
    (tmp_path / "file").write_bytes(b"old")
    storage.write(tmp_path / "file", b"new")
    assert seen == [b"old", b"new"]  # the second time for the name in its folder


@pytest.mark.parametrize("limit", [0, 4_096, 60_000])
def test_netcdf_on_a_full_disk(limit, tmp_path):
    """A limit on the size of files fails as a full disk does, inside of the netCDF library."""
    path = tmp_path / "flow.nc"
    storage.write_trajectory(path, trajectory())
    before = listing(tmp_path)
    large = trajectory(rows=20_000)
    _, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, hard))
    try:
        with pytest.raises(OSError, match=r"flow\.nc") as caught:
            storage.write_trajectory(path, large)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))
    assert caught.value.filename == str(path)
    assert listing(tmp_path) == before


def test_json_has_no_nan(tmp_path):
    content = {
        "t": np.float32(0.5),
        "n": np.int64(3),
        "gone": [np.nan, -np.inf, np.float64("nan")],
        "inner": {1: (True, None, "x")},
    }
    storage.write_json(tmp_path / "summary.json", content)
    assert json.loads((tmp_path / "summary.json").read_text()) == {
        "t": 0.5,
        "n": 3,
        "gone": [None, None, None],
        "inner": {"1": [True, None, "x"]},
    }


def test_arrays(tmp_path):
    arrays = {"layers.0.weight": np.arange(6.0).reshape(2, 3), "scalar": np.array(2.0)}
    storage.write_arrays(tmp_path / "flow-final.npz", arrays)
    with np.load(tmp_path / "flow-final.npz") as found:
        assert list(found) == list(arrays)
        for name, array in arrays.items():
            np.testing.assert_array_equal(found[name], array)


# The directory of a run.


def test_a_new_run_may_lie_in_an_empty_directory_or_below_none(tmp_path):
    (tmp_path / "empty").mkdir()
    (tmp_path / "link").symlink_to("empty")
    storage.create(tmp_path / "link", MANIFEST, overwrite=False)
    storage.create(tmp_path / "a/b/c", MANIFEST, overwrite=True)
    assert json.loads((tmp_path / "empty/manifest.json").read_text()) == MANIFEST
    assert json.loads((tmp_path / "a/b/c/manifest.json").read_text()) == MANIFEST


def test_of_two_that_begin_at_once_one_is_refused(tmp_path):
    with storage.lock(tmp_path / "run"):
        with (
            pytest.raises(StorageError, match="run is in use: another process"),
            storage.lock(tmp_path / "run"),
        ):
            pass
        storage.create(tmp_path / "run", MANIFEST, overwrite=False)
        with (
            pytest.raises(StorageError, match="run exists; allowed: another directory"),
            storage.lock(tmp_path / "run"),
        ):
            pass
    assert set(listing(tmp_path / "run")) == {"manifest.json"}
    with storage.lock(tmp_path / "run", overwrite=True):
        pass


def test_no_lock_is_left_where_no_run_may_be(tmp_path):
    (tmp_path / "mine").write_text("notes")
    before = listing(tmp_path)
    with (
        pytest.raises(StorageError, match="is not a gradflow run"),
        storage.lock(tmp_path, overwrite=True),
    ):
        pass
    assert listing(tmp_path) == before


def test_what_a_killed_process_had_half_written_goes(tmp_path):
    run = stored(tmp_path)
    before = listing(run)
    (run / "checkpoints").mkdir()
    for name in (".flow.nc.4711", "checkpoints/.000001.npz.4711"):
        (run / name).write_bytes(b"half of")
    with storage.lock(run, overwrite=True):
        pass
    (run / "checkpoints").rmdir()
    assert listing(run) == before
    # Nor does it stand in the way of a run whose first file it was to be.
    (tmp_path / "new").mkdir()
    (tmp_path / "new/.manifest.json.4711").write_bytes(b"half of")
    with storage.lock(tmp_path / "new"):
        storage.create(tmp_path / "new", MANIFEST, overwrite=False)
    assert set(listing(tmp_path / "new")) == {"manifest.json"}


def test_what_an_interrupted_overwrite_leaves_can_be_overwritten(tmp_path, monkeypatch):
    run = tmp_path / "run"
    storage.create(run, MANIFEST, overwrite=False)
    storage.write(run / storage.CONFIG, b"seed: 1")
    storage.write(run / storage.FLOW, b"...")
    with monkeypatch.context() as then:
        then.setattr(storage.run, "write_json", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            storage.create(run, {**MANIFEST, "seed": 2}, overwrite=True)
    # As it was: nothing goes before the manifest says that a new run has begun.
    assert set(listing(run)) == {"manifest.json", "config.yaml", "flow.nc"}
    storage.create(run, {**MANIFEST, "seed": 3}, overwrite=True)
    assert gf.load(run).manifest["seed"] == 3


# What cannot be read.


def stored(folder: Path) -> Path:
    run = folder / "run"
    storage.create(run, MANIFEST, overwrite=False)
    storage.write_trajectory(run / storage.FLOW, trajectory())
    storage.write_json(run / storage.SUMMARY, {"flow": {}})
    return run


def test_load_reads_every_trajectory(tmp_path):
    run = stored(tmp_path)
    storage.write_trajectory(run / "descent-0.nc", trajectory(2))
    found = gf.load(str(run))
    assert list(found.trajectories) == ["descent-0", "flow"]
    assert len(found.flow.time) == 4
    assert len(found.trajectories["descent-0"].time) == 2
    assert (found.directory, found.config) == (run, run / "config.yaml")
    assert (found.manifest, found.summary) == (MANIFEST, {"flow": {}})


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def scramble(path: Path) -> None:
    """Keep the beginning, by which the format is known, and spoil the rest."""
    content = bytearray(path.read_bytes())
    content[600:] = bytes(reversed(content[600:]))
    path.write_bytes(content)


def foreign(path: Path) -> None:
    xarray.Dataset({"a": ("x", np.zeros(2))}).to_netcdf(path, engine="netcdf4")


def without_crossings(path: Path) -> None:
    with xarray.open_dataset(path) as dataset:
        dataset.load()
    dataset.attrs["record"] = json.dumps({"final_time": 1.0})
    dataset.to_netcdf(path, engine="netcdf4")


@pytest.mark.parametrize(
    ("name", "damage", "told"),
    [
        ("flow.nc", cut, "is damaged: "),
        ("flow.nc", scramble, "is damaged: "),
        ("flow.nc", lambda path: path.write_bytes(b""), "is damaged: "),
        ("flow.nc", lambda path: path.write_text("text"), "is damaged: "),
        ("flow.nc", lambda path: path.unlink() or path.mkdir(), "is damaged: "),
        ("flow.nc", foreign, "is not a trajectory that gradflow wrote"),
        ("flow.nc", without_crossings, "is not a trajectory that gradflow wrote"),
        ("summary.json", cut, "is damaged: "),
        ("summary.json", lambda path: path.write_text("[]"), "is damaged: it holds no mapping"),
        ("manifest.json", lambda path: path.write_bytes(b"\xff"), "is damaged: "),
        ("manifest.json", lambda path: path.write_text("{}"), "has no manifest.json of one"),
        ("manifest.json", lambda path: path.write_text('{"versions": 3}'), "has no manifest.json"),
        ("manifest.json", Path.unlink, "is not a gradflow run: it has no manifest.json of one"),
    ],
)
def test_damage_is_told_in_one_line(name, damage, told, tmp_path):
    run = stored(tmp_path)
    damage(run / name)
    with pytest.raises(StorageError) as caught:
        gf.load(run)
    assert told in str(caught.value)
    assert str(caught.value).startswith(str(run))
    assert "\n" not in str(caught.value)


def test_there_is_no_such_file(tmp_path):
    with pytest.raises(StorageError, match=r"flow\.nc does not exist$"):
        storage.read_trajectory(tmp_path / "flow.nc")
    with pytest.raises(StorageError, match="is not a gradflow run"):
        gf.load(tmp_path / "nowhere")
