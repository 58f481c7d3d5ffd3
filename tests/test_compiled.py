"""What the command compiles it compiles once."""

import os

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from command import QUICKSTART, SMALL, gradflow
from jax._src import compilation_cache

import gradflow as gf
from gradflow import compiled, doctor
from gradflow.cli.running import load, prepare

SETTINGS = ("jax_compilation_cache_dir", "jax_persistent_cache_min_compile_time_secs")


@pytest.fixture
def home(tmp_path, monkeypatch):
    """A user's, whose JAX was told nothing of a cache; the suite's own is back afterwards."""
    before = {name: getattr(jax.config, name) for name in SETTINGS}
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.delenv(compiled.VARIABLE)
    monkeypatch.delenv("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", raising=False)
    jax.config.update("jax_compilation_cache_dir", None)
    compilation_cache.reset_cache()
    try:
        yield tmp_path
    finally:
        for name, value in before.items():
            jax.config.update(name, value)
        compilation_cache.reset_cache()
        jax.clear_caches()


@pytest.fixture
def count():
    """Programs that were found and that were compiled since it was called last."""
    seen = []
    jax.monitoring.register_event_listener(listen := lambda name, **_: seen.append(name))

    def found_and_compiled():
        counts = [seen.count(f"/jax/compilation_cache/cache_{it}") for it in ("hits", "misses")]
        seen.clear()
        return tuple(counts)

    yield found_and_compiled
    jax.monitoring.unregister_event_listener(listen)


def names(folder):
    return {entry.name for entry in compiled.files(folder)}


def test_the_place_is_the_users_and_can_be_another_or_none(home, monkeypatch):
    assert compiled.place() == home / "gradflow" / "compiled"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(home / "me"))
    monkeypatch.setenv("USERPROFILE", str(home / "me"))
    assert compiled.place() == home / "me" / ".cache" / "gradflow" / "compiled"
    monkeypatch.setenv(compiled.VARIABLE, str(home / "here"))
    assert compiled.place() == home / "here"
    for off in ("off", "OFF"):
        monkeypatch.setenv(compiled.VARIABLE, off)
        assert compiled.place() is None


@pytest.mark.parametrize(
    ("name", "value"),
    [("jax_compilation_cache_dir", "/its/own"), ("jax_enable_compilation_cache", False)],
)
def test_what_jax_was_told_itself_stays(name, value, home):
    before = getattr(jax.config, name)
    jax.config.update(name, value)
    try:
        assert compiled.place() is None
        compiled.keep()
        assert getattr(jax.config, name) == value
        assert not isinstance(compilation_cache._cache, compiled.Programs)
        (line,) = [line for line in doctor.examine() if line.startswith("compiled programs")]
        assert ("/its/own" in line) == (value == "/its/own")
    finally:
        jax.config.update(name, before)
    assert not list(home.iterdir())


def test_the_library_keeps_nothing(home, count):
    problem = gf.Problem(lambda w, data: 0.5 * jnp.sum((w - data) ** 2), np.ones(3), np.zeros(3))
    gf.solve(problem, t1=1.0, save=gf.Linear(count=5))
    assert count() == (0, 0)
    assert not list(home.iterdir())


def test_a_second_command_compiles_nothing_and_computes_the_same_bits(home, count, tmp_path):
    runs = []
    for place in ("one", "two"):
        jax.clear_caches()
        folder = tmp_path / place
        done = gradflow("solve", QUICKSTART, *SMALL, "figures=false", "report=false",
                        "--output", folder, "--quiet")  # fmt: skip
        assert (done.code, done.err) == (0, "")
        runs.append((count(), gf.load(folder).flow))
    ((found, made), one), ((found_again, made_again), two) = runs
    assert made > 0
    assert (found_again, made_again) == (found + made, 0)
    for name in one.variables:
        np.testing.assert_array_equal(one[name], two[name])
    (line,) = [line for line in doctor.examine() if line.startswith("compiled programs")]
    assert line.startswith(f"compiled programs: {made} in {home / 'gradflow' / 'compiled'}, ")


def test_a_place_that_cannot_be_used_is_a_warning(home, monkeypatch, capsys):
    (home / "file").touch()
    monkeypatch.setenv(compiled.VARIABLE, str(home / "file" / "below"))
    prepare(load(QUICKSTART))
    told = capsys.readouterr().err
    assert told.startswith("warning: compiled programs are not kept: ")
    assert str(home / "file") in told
    assert jax.config.jax_compilation_cache_dir is None


def test_a_program_is_there_whole_or_not_at_all(tmp_path, monkeypatch):
    programs = compiled.Programs(tmp_path)
    assert programs.get("f") is None

    def seen_before_it_is_whole(beside, path):
        assert compiled.Programs(tmp_path).get("f") is None
        raise OSError("the disk is full")

    with monkeypatch.context() as patched:
        patched.setattr(os, "replace", seen_before_it_is_whole)
        programs.put("f", b"machine code")
    assert names(tmp_path) == set()
    # What is damaged is compiled again, and replaced.
    (tmp_path / "f").write_bytes(b"mach")
    programs.put("f", b"machine code")
    assert compiled.Programs(tmp_path).get("f") == b"machine code"
    compiled.Programs(tmp_path / "gone").put("f", b"")


def test_what_was_used_least_recently_makes_room(tmp_path):
    for age, name in enumerate("abcd"):
        (tmp_path / name).write_bytes(bytes(10))
        os.utime(tmp_path / name, (100 - age, 100 - age))
    compiled.Programs(tmp_path).get("c")
    compiled.Programs(tmp_path, most=25).put("new", bytes(10))
    assert names(tmp_path) == {"a", "c", "new"}
