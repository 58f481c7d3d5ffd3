"""What the command compiles it compiles once."""

import os
from contextlib import suppress

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from command import QUICKSTART, SMALL, gradflow
from jax._src import compilation_cache

import gradflow as gf
from gradflow import compiled, doctor
from gradflow.cli.running import load, prepare
from gradflow.sweep import worker

SETTINGS = (
    "jax_compilation_cache_dir",
    "jax_persistent_cache_min_compile_time_secs",
    "jax_persistent_cache_enable_xla_caches",
)


@pytest.fixture
def home(tmp_path, monkeypatch):
    """A user's, whose JAX was told nothing of a cache; the suite's own is back afterwards."""
    before = {name: getattr(jax.config, name) for name in SETTINGS}
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.delenv(compiled.VARIABLE)
    for name in SETTINGS:
        monkeypatch.delenv(name.upper(), raising=False)
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
    return {path.name for path in folder.iterdir()}


def test_the_place_is_the_users_and_can_be_another_or_none(home, monkeypatch):
    assert compiled.place() == home / "gradflow" / "compiled"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(home / "me"))
    monkeypatch.setenv("USERPROFILE", str(home / "me"))
    for relative in ("", "here"):
        monkeypatch.setenv("XDG_CACHE_HOME", relative)
        assert compiled.place() == home / "me" / ".cache" / "gradflow" / "compiled"
    for told in (str(home / "me" / "here"), "~/here"):
        monkeypatch.setenv(compiled.VARIABLE, told)
        assert compiled.place() == home / "me" / "here"
    monkeypatch.setenv(compiled.VARIABLE, "here")
    with pytest.raises(compiled.PlaceError, match=r"=here: .*allowed: an absolute folder, or off"):
        compiled.place()
    monkeypatch.setenv(compiled.VARIABLE, "")
    with monkeypatch.context() as homeless:
        homeless.setenv("HOME", "")
        assert compiled.place() is None
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
    assert told.startswith(next(line for line in doctor.examine() if "not kept" in line))


def test_a_program_is_for_so_many_processors(tmp_path, monkeypatch):
    folders = set()
    for threads in ("1", "2", "2"):
        monkeypatch.setenv("NPROC", threads)
        folders.add(compiled.folder(tmp_path))
    monkeypatch.setattr(os, "cpu_count", lambda: 1000)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: range(1000), raising=False)
    folders.add(compiled.folder(tmp_path))
    assert len(folders) == 3


@pytest.mark.skipif(not hasattr(os, "geteuid"), reason="folders have no such owners here")
def test_a_folder_that_others_may_write_to_is_not_used(tmp_path, monkeypatch):
    found = compiled.folder(tmp_path)
    for mode in (0o720, 0o702):
        found.chmod(mode)
        with pytest.raises(compiled.PlaceError, match=f"{found}: others may write to it; chmod"):
            compiled.folder(tmp_path)
    found.chmod(0o700)
    me = os.geteuid()
    monkeypatch.setattr(os, "geteuid", lambda: me + 1)
    with pytest.raises(compiled.PlaceError, match="it is another user's"):
        compiled.folder(tmp_path)


def test_the_installed_jax_lets_its_cache_be_replaced():
    assert compiled.hook() is compilation_cache


def test_another_jax_may_not(home, monkeypatch):
    monkeypatch.delattr(compilation_cache, "_cache_initialized")
    assert compiled.hook() is compiled.place() is None
    compiled.keep()
    assert jax.config.jax_compilation_cache_dir is None
    assert "compiled programs: not kept: this JAX has no place for it" in doctor.examine()
    monkeypatch.undo()  # before the fixture puts JAX's own back


def test_a_worker_keeps_what_it_compiles(home, monkeypatch, capsys):
    worker._find_compiled.cache_clear()
    worker._find_compiled()
    assert isinstance(compilation_cache._cache, compiled.Programs)
    jax.config.update("jax_compilation_cache_dir", None)
    compilation_cache.reset_cache()
    monkeypatch.setenv(compiled.VARIABLE, "relative")
    worker._find_compiled.cache_clear()
    for _ in range(2):
        worker._find_compiled()
    assert capsys.readouterr().err.count("warning: compiled programs are not kept: ") == 1
    worker._find_compiled.cache_clear()


def test_a_damaged_program_is_compiled_again_and_replaced(home):
    compiled.keep()
    x = np.arange(3.0)
    cubed = jax.jit(lambda x: x**3 + 1)
    cubed(x)
    (program,) = (it for it in compiled.kept(compiled.place()) if it.path.name.startswith("jit__l"))
    whole = program.path.read_bytes()
    program.path.write_bytes(whole[: len(whole) // 2])
    jax.clear_caches()
    with pytest.warns(UserWarning, match="persistent compilation cache"):
        found = cubed(x)
    np.testing.assert_array_equal(found, x**3 + 1)
    assert program.path.stat().st_size > len(whole) // 2


def key(name):
    return f"jit_{name}-{64 * '0'}"


@pytest.fixture
def folder(tmp_path):
    """One of a place."""
    return compiled.folder(tmp_path / "place")


def test_a_program_is_there_whole_or_not_at_all(folder, monkeypatch):
    programs = compiled.Programs(folder)
    assert programs.get(key("f")) is None

    for stopped in (OSError("the disk is full"), KeyboardInterrupt()):

        def seen_before_it_is_whole(beside, path, stopped=stopped):
            assert compiled.Programs(folder).get(key("f")) is None
            raise stopped

        with monkeypatch.context() as patched, suppress(KeyboardInterrupt):
            patched.setattr(os, "replace", seen_before_it_is_whole)
            programs.put(key("f"), b"machine code")
        assert names(folder) == set()
    programs.put(key("f"), b"machine code")
    assert compiled.Programs(folder).get(key("f")) == b"machine code"
    compiled.Programs(folder / "gone").put(key("f"), b"")


def test_what_was_used_least_recently_makes_room(folder, monkeypatch):
    """In the folders of other machines, too; what is not ours to delete stays."""
    other = folder.parent / "0123abcd"
    others = folder.parent / "somebody"
    for place in (other, others):
        place.mkdir()
    for age, path in enumerate([folder / key("a"), other / key("b"), folder / key("c"),
                                other / key("d"), others / key("e"), folder / "readme",
                                folder / "unfinished-f"]):  # fmt: skip
        path.write_bytes(bytes(10))
        os.utime(path, (100 - age, 100 - age))
    compiled.Programs(folder).get(key("c"))
    programs = compiled.Programs(folder, most=40)
    programs.put(key("large"), bytes(6))
    assert {path.name for path in other.iterdir()} == {key("b"), key("d")}
    programs.put(key("new"), bytes(5))
    assert names(folder) == {key("a"), key("c"), key("new"), "readme"}
    assert names(other) == {key("b")}
    assert names(others) == {key("e")}
    assert sum(program.size for program in compiled.kept(folder.parent)) <= 40
    # A process goes on looking, and one that finds a file deleted by another keeps its own.
    with monkeypatch.context() as patched:
        gone = compiled.Kept(0.0, 100, folder / key("gone"))
        patched.setattr(compiled, "kept", lambda place: [gone])
        programs.put(key("newer"), bytes(5))
    assert programs.get(key("newer")) == bytes(5)
    programs.put(key("newest"), bytes(5))
    assert sum(program.size for program in compiled.kept(folder.parent)) <= 40
    assert programs.get(key("newest")) == bytes(5)
