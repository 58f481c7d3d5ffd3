"""In a notebook: what a run shows of itself, and what importing gradflow leaves alone."""

import subprocess
import sys

import matplotlib as mpl
import matplotlib.figure
import nbformat
import numpy as np
import pandas
import pytest
from nbclient import NotebookClient

import gradflow as gf
from gradflow.trajectory import Trajectory, Variable

CELLS = (
    """
import jax.numpy as jnp
import gradflow as gf

def loss(params, data):
    return jnp.sum((params - data) ** 2)

flow = gf.solve(gf.Problem(loss, jnp.zeros(2), jnp.ones(2)), t1=1.0, rtol=1e-3, progress=True)
""",
    "flow",
    'flow.plot("loss", "grad_norm", xscale="log").set_title("mine");',
)


def test_a_notebook_shows_progress_the_run_and_its_plots():
    cells = [nbformat.v4.new_code_cell(source) for source in CELLS]
    notebook = nbformat.v4.new_notebook(cells=cells)
    NotebookClient(notebook, timeout=120).execute()
    progress, shown, plotted = ([o["data"] for o in c["outputs"] if "data" in o] for c in cells)
    assert len(progress) == 1  # in its place, not one below the other
    assert 'value="1.0000"' in progress[0]["text/html"]
    assert "t = 1 of 1, loss " in progress[0]["text/html"]
    assert "<code>grad_norm</code>" in shown[0]["text/html"]
    assert "Trajectory(200 times to t = 1" in shown[0]["text/plain"]
    assert plotted[0]["image/png"]


@pytest.fixture(scope="module")
def record():
    time = np.array([0.0, 1.0, 2.0])
    variables = {
        "loss": Variable(np.array([1.0, 0.1, 1e-4]), ("time",), "loss"),
        "score": Variable(np.arange(12.0).reshape(3, 2, 2), ("time", "key", "query"), units="m"),
        "rare": Variable(np.array([5.0, 6.0]), ("time_rare",), "<b>"),
    }
    coords = {"time": time, "time_rare": time[:2], "key": np.array([1, 2]), "query": np.arange(2)}
    return Trajectory(variables, coords, 2.0, {"solver": "tsit5"}, "end_time")


def test_a_table_has_a_column_for_every_entry(record):
    table = record.to_dataframe()
    assert isinstance(table, pandas.DataFrame)
    assert list(table) == ["loss", *(f"score[{k}, {q}]" for k in (1, 2) for q in (0, 1))]
    assert table.index.name == "time"
    np.testing.assert_array_equal(table["score[2, 0]"], record.sel("score", key=2, query=0))
    assert list(record.to_dataframe("time_rare")["rare"]) == [5.0, 6.0]
    with pytest.raises(KeyError, match="no time axis 'key'; there are: time, time_rare"):
        record.to_dataframe("key")


def test_what_a_notebook_shows_is_escaped(record):
    html = record._repr_html_()
    assert "&lt;b&gt;" in html
    assert "<b>Trajectory</b>" in html
    assert html.count("<tr>") == 1 + len(record)


def test_plots_are_in_the_users_own_style_unless_asked_for(record):
    canvas = mpl.figure.Figure()
    ax = canvas.subplots()
    assert record.plot(ax=ax) is ax
    assert ax.get_yscale() == "log"
    assert ax.get_ylabel() == "loss"
    record.plot("score", ax=ax, query=1, yscale="linear")
    assert [line.get_label() for line in ax.get_lines()[1:]] == ["key 1, query 1", "key 2, query 1"]
    size = mpl.rcParams["font.size"]
    with gf.plotting.style():
        assert mpl.rcParams["font.size"] == 8.0
    assert mpl.rcParams["font.size"] == size
    with pytest.raises(KeyError, match="no variable 'lost'"):
        record.plot("lost", ax=ax)
    with pytest.raises(KeyError, match="no label 7"):
        record.plot("score", ax=ax, key=7)


def test_importing_changes_no_global_state():
    """Nor does it import what only a figure, a file or a terminal needs."""
    source = """
import sys, warnings, matplotlib, jax, numpy
before = dict(jax.config.values), matplotlib.rcParams.copy(), list(warnings.filters)
errors = numpy.geterr()
import gradflow as gf
for name in {*gf.__all__} - {"report", "sweep"}:  # which read configurations
    getattr(gf, name)
assert dict(jax.config.values) == before[0]
assert matplotlib.rcParams.copy() == before[1]
assert numpy.geterr() == errors
late = {"matplotlib.pyplot", "pandas", "xarray", "netCDF4", "sklearn", "rich", "click", "yaml"}
assert not late & set(sys.modules), late & set(sys.modules)
"""
    done = subprocess.run([sys.executable, "-c", source], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
