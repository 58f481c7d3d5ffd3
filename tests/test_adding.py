"""The README's section on adding to gradflow, followed to the letter."""

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import gradflow as gf

ROOT = Path(__file__).parent.parent
SECTION = re.search(r"## Adding to gradflow\n(.*?)\n## ", (ROOT / "README.md").read_text(), re.S)
CONFIG = """
problem: {kind: rosenbrock, steepness: 1.0}
flow:
  t1: 30
  rtol: 1e-6
  solver: ralston
  field: {kind: decay, rate: 0.1}
  save: {kind: linear, count: 20}
  save_each: {position: {kind: linear, count: 5}}
"""


@pytest.fixture(scope="module")
def added(tmp_path_factory):
    """A copy of the package with what the section adds, and a run of all of it."""
    assert SECTION is not None
    folder = tmp_path_factory.mktemp("added")
    shutil.copytree(ROOT / "gradflow", folder / "gradflow")
    files = re.findall(r"```python\n# (\S+)\n(.*?)```", SECTION[1], re.S)
    assert len(files) == 2
    for name, code in files:
        assert not (folder / name).exists()
        (folder / name).write_text(code)
    rows = re.findall(r"\| `(.+?)` \| `(\w+)` of `(.+?)` \|", SECTION[1])
    assert len(rows) == 3
    for row, table, name in rows:
        path = folder / name
        source = path.read_text()
        opening = re.search(rf"^{table}\b.*?= [({{]\n", source, re.M)
        assert opening, (table, name)
        source = source[: opening.end()] + f"    {row}\n" + source[opening.end() :]
        homes = [Path(file).stem for file, code in files if f"class {row[:-1]}(" in code]
        for home in homes:
            line = f"from .{home} import {row[:-1]} as {row[:-1]}\n"
            source = re.sub(r"^from \.", line + "from .", source, count=1, flags=re.M)
        path.write_text(source)
    (folder / "added.yaml").write_text(CONFIG)
    done = subprocess.run(
        [sys.executable, "-m", "gradflow", "solve", "added.yaml", "--quiet"],
        cwd=folder, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return folder


def test_a_config_names_what_was_added(added):
    run = gf.load(added / "runs/added")
    assert run.flow.stats["solver"] == "ralston"
    assert (added / "runs/added/figures/position.png").exists()
    assert list(run.flow.coords["coordinate"]) == ["x", "y"]


def test_it_does_what_it_says(added):
    """The decaying flow ends where the gradient of the loss and of the decay cancel."""
    flow = gf.load(added / "runs/added").flow
    x, y = flow["position"][-1]
    gradient = [-2 * (1 - x) - 4 * x * (y - x**2), 2 * (y - x**2)]
    np.testing.assert_allclose(gradient, [-0.1 * x, -0.1 * y], atol=1e-4)
    assert np.nanmax(np.abs(flow["energy_residual"])) < 1e-4 * flow["flow_energy"][0]


def test_it_is_in_the_schema_and_in_what_is_allowed(added):
    told = subprocess.run(
        [sys.executable, "-m", "gradflow", "schema"], cwd=added, capture_output=True, text=True
    )
    assert {"Rosenbrock", "Decay"} <= set(json.loads(told.stdout)["$defs"])
