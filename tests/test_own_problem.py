"""A user's own problem: from a file to a stored run, and what a mistake in it is answered with."""

import json
import re
import sys
import textwrap
from pathlib import Path
from typing import NamedTuple

import jax
import numpy as np
import pytest
import xarray
from click.testing import CliRunner

import gradflow as gf
from gradflow.cli import main

HEAD = "import jax\nimport jax.numpy as jnp\nimport numpy as np\nimport gradflow as gf\n"
MAKE = "return gf.Problem(loss, {'w': jnp.ones(3)}, jnp.ones(3))"


@pytest.fixture
def command(tmp_path, monkeypatch):
    """Runs the command in a fresh folder, with a config for the problem file that it holds."""
    monkeypatch.chdir(tmp_path)

    def run(source, *arguments, name="solve", target="mine.py:make", lines=""):
        Path("mine.py").write_text(source)
        Path("mine.yaml").write_text(
            f"problem:\n  kind: python\n  target: {target}\nflow:\n  t1: 1\n"
            f"  save: {{kind: linear, count: 5}}\nfigures: false\n{lines}"
        )
        return CliRunner().invoke(main, [name, "mine.yaml", *arguments])

    return run


OWN = """
import jax, jax.numpy as jnp, optax
import equinox as eqx
import gradflow as gf
from neighbour import scale

@gf.observable(dims=["layer"], coords={"layer": ["first", "last"]}, label="norm", units="m")
def norms(t, model, data):
    return jnp.stack([jnp.linalg.norm(layer.weight) for layer in model.layers])

def moments(t, model, data):
    inputs, _ = data
    outputs = jax.vmap(model)(inputs)
    return {"test_error": outputs.mean(), "outputs": outputs[:2] * t}

def make(key, data_key, width=4):
    print("made")
    model = eqx.nn.MLP(2, "scalar", width, 1, activation=jnp.tanh, key=key)
    inputs = scale * jax.random.normal(data_key, (8, 2))
    return gf.Problem.from_model(
        model, optax.l2_loss, (inputs, inputs[:, 0]), observables=[norms, moments]
    )
"""


def test_a_problem_file_is_run_stored_and_drawn(command, tmp_path):
    (tmp_path / "neighbour.py").write_text("scale = 2.0\n")
    done = command(
        OWN, "problem.args.width=3", "figures=true", "descent={learning_rates: [0.25]}",
        "flow.save_each.norms={kind: linear, count: 3}",
    )  # fmt: skip
    assert done.exit_code == 0, done.stderr
    assert done.stdout == "runs/mine\n"  # what the file prints goes elsewhere
    assert "made" in done.stderr
    run = Path("runs/mine")
    assert (run / "problem.py").read_text() == OWN
    assert "target: problem.py:make" in (run / "config.yaml").read_text()
    assert gf.load(run).manifest["problem"] == f"{tmp_path / 'mine.py'}:make"
    flow = gf.load(run).flow
    assert flow.variables["norms"].dims == ("time_norms", "layer")
    assert flow.variables["norms"].units == "m"
    assert list(flow.coords["layer"]) == ["first", "last"]
    assert flow["outputs"].shape == (len(flow.time), 2)
    np.testing.assert_array_equal(flow["outputs"][0], 0.0)
    assert {p.stem for p in (run / "figures").glob("*.png")} >= {
        "loss", "norms", "test_error", "outputs"
    }  # fmt: skip
    with xarray.open_dataset(run / "comparison.nc") as compared:
        assert {"test_error_difference", "outputs_difference"} <= set(compared)
    # The file may be gone: a run is drawn again from what it recorded.
    (tmp_path / "mine.py").unlink()
    again = CliRunner().invoke(main, ["plot", str(run)])
    assert again.exit_code == 0, again.stderr


def test_seeds_draw_with_the_keys_that_the_function_takes(command, tmp_path):
    (tmp_path / "neighbour.py").write_text("scale = 1.0\n")
    starts = {}
    for name, extra in (("both", "seeds=2"), ("weights", "seeds=2 data_seed=0")):
        done = command(OWN, *extra.split(), "--output", name)
        assert done.exit_code == 0, done.stderr
        starts[name] = gf.load(name).flow
    for flow in starts.values():
        assert len(np.unique(flow["norms"][0, 0])) == 2
    # The data of seed 0 in both runs: the first member is the same, the second is not.
    first, second = (starts["both"]["loss"] == starts["weights"]["loss"]).all(axis=0)
    assert first
    assert not second


def test_a_problem_and_a_module_may_be_targets(command, tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    source = HEAD + "problem = gf.Problem(lambda w, _: jnp.sum(w**2) / 2, jnp.ones(2))\n"
    for target in ("mine.py:problem", "mine:problem"):
        done = command(source, "--overwrite", target=target)
        assert done.exit_code == 0, done.stderr
        loss = json.loads(Path("runs/mine/summary.json").read_text())["flow"]["loss"]
        np.testing.assert_allclose(loss, np.exp(-2.0), rtol=1e-3)


def test_files_of_one_name_and_their_neighbours_are_kept_apart(tmp_path):
    """And one that was changed, be it within the second and of the same size, is read again."""
    source = HEAD + (
        "from near import scale\nSHIFT = {0}.0\ndef shift():\n    return SHIFT\n"
        "def make(key):\n    return gf.Problem(lambda w, d: d * w**2, 1.0, scale + shift())\n"
    )
    folders = [tmp_path / name for name in "ab"]
    for i, folder in enumerate(folders):
        folder.mkdir()
        (folder / "near.py").write_text(f"scale = {10 * i}.0\n")
        (folder / "mine.py").write_text(source.replace("{0}", str(i)))

    def built():
        tasks = [
            gf.tasks.Python(target=f"{folder / 'mine.py'}:make", args={}) for folder in folders
        ]
        return [float(task.build(jax.random.key(0)).data) for task in tasks]

    assert built() == [0.0, 11.0]
    (folders[1] / "near.py").write_text("scale = 20.0\n")
    (folders[0] / "mine.py").write_text(source.replace("{0}", "5"))
    assert built() == [5.0, 21.0]
    assert "near" not in sys.modules
    assert not list(tmp_path.glob("*/mine*.pyc"))


class Mistake(NamedTuple):
    """What is wrong in a file, the line that must be named, and words of the answer."""

    source: str
    line: int
    told: str
    code: int = 2


def _loss(body, make=MAKE, head=HEAD):
    """A file with this loss, behind four lines, whose problem is made in its last line."""
    body = textwrap.indent(textwrap.dedent(body), "    ")
    return f"{head}def loss(params, data):\n{body}\ndef make(key):\n    {make}\n"


def _params(params):
    return _loss("return jnp.sum(params['w'])", f"return gf.Problem(loss, {params})")


def _observed(observables):
    make = f"return gf.Problem(loss, {{'w': jnp.ones(3)}}, observables={observables})"
    return _loss("return jnp.sum(params['w'])", make)


MISTAKES = {
    "syntax": Mistake(HEAD + "def make(key)\n    return 1\n", 5, "SyntaxError"),
    "missing package": Mistake("import jaxx\n", 1, "No module named 'jaxx'"),
    "fails on import": Mistake(HEAD + "jnp.ones(3) @ jnp.ones(4)\n", 5, r"got \(3,\) and \(4,\)"),
    "ends the process": Mistake("import sys\nsys.exit(3)\n", 2, "SystemExit"),
    "no return": Mistake(HEAD + "def make(key):\n    3\n", 5, "got None; does it end without"),
    "no problem": Mistake(HEAD + "def make(key):\n    return 1, 2\n", 5, "got a tuple of 2"),
    "fails when made": Mistake(HEAD + "def make(key):\n    return {}['a']\n", 6, "KeyError: 'a'"),
    "never ends": Mistake(HEAD + "def make(key):\n    return make(key)\n", 6, "RecursionError"),
    "vector loss": Mistake(_loss("return params['w']"), 5, "pass it as sample_loss="),
    "integer loss": Mistake(_loss("return jnp.argmax(params['w'])"), 5, "of int64"),
    "complex loss": Mistake(_loss("return params['w'][0].astype(complex)"), 5, "of complex128"),
    "loss and more": Mistake(_loss("return 1.0, params"), 5, "return the loss alone"),
    "no loss": Mistake(_loss("jnp.sum(params['w'])"), 5, "got None; does it end without return"),
    "loss of one argument": Mistake(
        HEAD + "def loss(params):\n    return 1.0\ndef make(key):\n    " + MAKE, 8, "must take"
    ),
    "integer parameter": Mistake(_params("{'w': jnp.arange(3)}"), 8, "a float array"),
    "empty parameter": Mistake(_params("{'w': jnp.ones((0, 2))}"), 8, r"is empty: \{'w': \(0, 2"),
    "text parameter": Mistake(_params("{'w': 1.0, 'name': 'x'}"), 8, r"params\['name'\] is 'x'"),
    "no parameter": Mistake(_params("{}"), 8, "nothing to train"),
    "two dtypes": Mistake(_params("{'w': jnp.ones(3), 'v': np.float32(1)}"), 8, "of one dtype"),
    "half precision": Mistake(_params("{'w': jnp.ones(3, jnp.float16)}"), 8, "float16; allowed"),
    "text as data": Mistake(_params("{'w': jnp.ones(3)}, ['a']"), 8, r"data\[0\] is 'a'"),
    "shapes": Mistake(_loss("w = params['w']\nreturn w @ jnp.ones(4)"), 7, r"\(3,\) and \(4,\)"),
    "if": Mistake(_loss("if params['w'][0] > 0:\n    return 1.0"), 6, "use jnp.where"),
    "numpy": Mistake(_loss("return np.asarray(params['w']).sum()"), 6, "in jax.numpy"),
    "float()": Mistake(_loss("return float(params['w'][0])"), 6, "keep them arrays"),
    "range()": Mistake(_loss("return sum(range(jnp.argmax(params['w'])))"), 6, "usual fix"),
    "in place": Mistake(_loss("params['w'][0] = 1.0"), 6, r"x\.at\[i\]\.set"),
    "boolean index": Mistake(_loss("w = params['w']\nreturn w[w > 0].sum()"), 7, "jnp.where"),
    "open loop": Mistake(
        _loss("w = params['w'][0]\nreturn jax.lax.while_loop(lambda x: x < 3, jnp.exp, w)"),
        7,
        "jax.lax.scan",
    ),
    "wrong key": Mistake(_loss("return params['W']"), 6, "KeyError: 'W'"),
    "wrong name": Mistake(_loss("return jnp.sum(parms['w'])"), 6, "NameError"),
    "kept outside": Mistake(
        _loss("kept.append(params['w'])\nreturn jnp.sum(kept[0])", head=HEAD + "kept = []\n"),
        6,
        "return it instead",
    ),
    "shape changes": Mistake(
        _loss(
            "calls.append(1)\nw = params['w']\nreturn w if calls[1:] else w.sum()",
            head=HEAD + "calls = []\n",
        ),
        6,
        r"got shape \(3,\)",
    ),
    "field of another shape": Mistake(
        HEAD + "def make(key):\n    return gf.Problem(vector_field=lambda t, p, d: p[:2], "
        "params=jnp.ones(3))\n",
        6,
        r"got \(2,\), expected \(3,\)",
    ),
    "observable of two arguments": Mistake(_observed("{'k': lambda t, p: 1.0}"), 8, "must take"),
    "observable fails": Mistake(_observed("{'k': lambda t, p, d: p['v']}"), 8, "KeyError: 'v'"),
    "observable of nothing": Mistake(_observed("{'k': lambda t, p, d: None}"), 8, "got None"),
    "observable named as ours": Mistake(_observed("{'loss': lambda t, p, d: 1.0}"), 8, "rename"),
    "observable's axes": Mistake(
        _observed("[gf.observable(lambda t, p, d: p['w'], name='k', dims=['a', 'b'])]"),
        8,
        r"of shape \(3,\), and dims has a, b",
    ),
    "event of one argument": Mistake(
        _loss("return jnp.sum(params['w'])", "return gf.Problem(loss, {'w': jnp.ones(3)}, "
              "events=[gf.Event('e', lambda s: s.params['v'])])"),
        8,
        "KeyError: 'v'",
    ),
    "nan at the start": Mistake(_loss("return jnp.log(params['w'] - 2).sum()"), 6, "nan", 3),
    "nan gradient": Mistake(
        _loss("w = params['w'] - data\nreturn jnp.linalg.norm(w)"), 7, "not finite", 3
    ),
    "nothing depends": Mistake(_loss("return jnp.sum(data)"), 5, "gradient is zero", 0),
}  # fmt: skip


@pytest.mark.parametrize("mistake", MISTAKES.values(), ids=MISTAKES)
def test_a_mistake_is_answered_with_the_users_own_line(mistake: Mistake, command):
    done = command(mistake.source)
    assert done.exit_code == mistake.code, (done.stderr, done.exception)
    answer = done.stderr.splitlines()
    if mistake.code == 0:
        answer = answer[:-1]  # the headline of a run that went well
    assert 1 <= len(answer) <= 6
    assert re.search(mistake.told, done.stderr), done.stderr
    assert re.search(rf"(?<![\w/])mine\.py:{mistake.line}\b", done.stderr), done.stderr
    assert all(len(line) < 400 for line in answer)
    # What is kept outside of a function shows only once that is compiled.
    assert Path("runs").exists() == (mistake.code != 2 or mistake.told == "return it instead")


@pytest.mark.parametrize(
    ("target", "lines", "told"),
    [
        ("mime.py:make", "", "mine.yaml:3:11: problem.target: no file .*did you mean 'mine.py'?"),
        ("mine.py:maek", "", r"3:11: problem.target: no 'maek' in .*did you mean 'make'\? there"),
        ("mine.py", "", "3:11: problem.target: got the text 'mine.py'; allowed: FILE.py:NAME"),
        ("mine.py:gf", "", "3:11: problem.target: 'gf' in .* is module; allowed: a function"),
        ("nowhere.at_all:make", "", "3:11: problem.target: no module 'nowhere'; allowed"),
        ("mine.py:sized", "", r"problem.args: sized \(mine.py:7\) needs n too: problem.args: {n:"),
        ("mine.py:make", "", "problem.args.widht: make .* no 'widht'; did you mean 'width'"),
        ("mine.py:make", "", "problem.args.key: key comes from the seed; leave it out"),
        ("mine.py:fixed", "seeds: 3\n", "8:8: seeds: all 3 runs would be the same; allowed: 1"),
        ("mine.py:make", "data_seed: 3\n", "8:12: data_seed: .* draws nothing from a data_key"),
    ],
)  # fmt: skip
def test_what_does_not_suit_the_problem_is_told_where_it_stands(target, lines, told, command):
    source = HEAD + (
        "def make(key, width=3):\n    return gf.Problem(lambda p, d: jnp.sum(p), jnp.ones(width))\n"
        "def sized(n):\n    return gf.Problem(lambda p, d: jnp.sum(p), jnp.ones(n))\n"
        "fixed = make(None)\n"
    )
    wrong = re.search(r"args\.(\w+)", told)
    arguments = [f"problem.args.{wrong[1]}=1"] if wrong else []
    done = command(source, *arguments, target=target, lines=lines)
    assert done.exit_code == 2
    assert len(done.stderr.splitlines()) == 1
    assert re.search(told, done.stderr), done.stderr
    assert not Path("runs").exists()


def test_save_times_name_an_observable_that_there_is(command):
    source = _observed("{'mean': lambda t, p, d: p['w'].mean()}")
    done = command(source, "flow.save_each.maen={kind: linear, count: 3}")
    assert done.exit_code == 2
    assert "flow.save_each.maen: no observable 'maen'; did you mean 'mean'?" in done.stderr


def test_validate_builds_the_problem(command):
    assert "target: " in command(_loss("return params['w'].sum()"), name="validate").stdout
    assert "mine.py:6" in command(_loss("return params['W']"), name="validate").stderr


def test_a_notebook_sees_the_users_frames_alone():
    def loss(params, data):
        return jnp_sum(params)

    def jnp_sum(params):
        return params["w"] @ np.ones(4)

    with pytest.raises(TypeError, match=r"\(3,\) and \(4,\)") as caught:
        gf.Problem(loss, {"w": np.ones(3)})
    frames = [entry.frame.code.path for entry in caught.traceback]
    ours = Path(gf.__file__).parent
    between = [path for path in map(Path, frames) if "jax" in path.parts]
    assert not between
    assert sum(path.is_relative_to(ours) for path in map(Path, frames)) <= 3
    assert [entry.name for entry in caught.traceback][-2:] == ["loss", "jnp_sum"]
    assert caught.value.__cause__ is None
