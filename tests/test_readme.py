"""The README's Python runs as it stands."""

import math
import re
from pathlib import Path

import jax
import pytest
from click.testing import CliRunner

import gradflow as gf
from gradflow.cli import main

REDUCED = ("problem.args.width=4", "flow.certify=false", "figures=false")
README = Path(__file__).parent.parent / "README.md"
BLOCKS = re.findall(r"```(python|yaml)\n(.*?)```", README.read_text(), re.DOTALL)
# What is to be typed into a session; the others begin with the name of their file.
SESSION = [code for kind, code in BLOCKS if kind == "python" and not code.startswith("# ")]
FILES = {code[2:].split("\n")[0]: code for _, code in BLOCKS if code.startswith("# ")}


@pytest.fixture(autouse=True)
def _as_a_users_session():
    """The examples promote as a user's session would."""
    jax.config.update("jax_numpy_dtype_promotion", "standard")
    yield
    jax.config.update("jax_numpy_dtype_promotion", "strict")


def test_the_examples_run(capsys):
    assert len(SESSION) == 7
    names = {}
    for block in SESSION:
        exec(block, names)
    assert (names["compared"]["modified_drift"][-1] < names["compared"]["drift"][-1]).all()
    assert names["flow"].result in capsys.readouterr().out
    assert names["ensemble"]["loss"].shape == (200, 20)
    assert names["point"].gradient_norm < 1e-11
    assert abs(names["solution"].ys[-1] - math.cos(1.0)).max() < 1e-3


def test_ten_lines_make_a_certified_flow_of_ones_own_model(capsys):
    lines = [line for line in SESSION[0].splitlines() if line.strip()]
    assert len(lines) <= 10
    names = {}
    exec(SESSION[0], names)
    flow = names["flow"]
    assert flow.stats["error_estimate"] < 10 * 1e-4
    assert "relative_error" in flow
    assert repr(flow) in capsys.readouterr().out


def test_the_problem_file_runs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("my_problem.py", "my.yaml"):
        Path(name).write_text(FILES[name])
    assert CliRunner().invoke(main, ["validate", "my.yaml"]).exit_code == 0
    done = CliRunner().invoke(main, ["solve", "my.yaml", *REDUCED])
    assert done.exit_code == 0, done.stderr
    assert gf.load("runs/my").flow["norms"].shape == (200, 2)


def test_what_is_wrong_in_it_is_told_as_the_readme_has_it(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    wrong = FILES["my_problem.py"].replace('"scalar", width, 1,', '"scalar", width,')
    Path("my_problem.py").write_text(wrong)
    Path("my.yaml").write_text(FILES["my.yaml"])
    told = CliRunner().invoke(main, ["solve", "my.yaml"]).stderr
    assert told.startswith("my_problem.py:11: in make: TypeError: MLP.__init__() missing 1 ")
    assert f"```\n{told}```" in README.read_text()


def test_what_it_links_to_exists():
    for target in re.findall(r"\]\(([^)#:]+)\)", README.read_text()):
        assert (README.parent / target).exists(), target
