"""The record of a sweep and its figures, from runs that are written by hand."""

import numpy as np
import pytest
from pages import check_apart, curves, ticks

from gradflow import plotting, storage, sweep
from gradflow.analysis import band
from gradflow.sweep.point import place
from gradflow.sweep.record import collect
from gradflow.trajectory import Trajectory, Variable

DONE = sweep.Status(done=True)
HEAD = "problem: {kind: matrix-factorisation, size: 4, strengths: [2, 1]}\nflow: {t1: 4}\n"


def planned(folder, text, *overrides):
    (folder / "grid.yaml").write_text(HEAD + text)
    return sweep.plan(folder / "grid.yaml", overrides)


def put(folder, point, summary, times=(0.0, 1.0, 2.0), **series):
    """A run of a point, of which `series` were recorded."""
    directory = place(folder, point.key)
    directory.mkdir(parents=True)
    flow = Trajectory(
        {name: Variable(np.asarray(values, float), ("time",)) for name, values in series.items()},
        {"time": np.asarray(times, float)},
        times[-1],
        {},
        "end_time",
    )
    storage.write_trajectory(directory / storage.FLOW, flow)
    storage.write_json(directory / storage.SUMMARY, summary)


def test_numbers_stand_where_their_values_say(tmp_path):
    plan = planned(tmp_path, "", "seed={sweep: [5, 7]}", "flow.rtol={sweep: [1e-3, 1e-4, 1e-5]}")
    for point in plan.points[:-1]:  # the last one is missing
        i, j = point.index
        flow = {"loss": 10 * i + j, "t1": 4.0, "result": "end_time", "solver": "bosh3"}
        phases = {"T1": None if i == 0 else 0.5}
        put(
            tmp_path,
            point,
            {"flow": flow, "phases": phases, "invariants": {"balance": j}},
            loss=[i, j, i + j],
        )
    statuses = {point.key: DONE for point in plan.points[:-1]}
    record = collect(plan, tmp_path, statuses)
    nan = np.nan
    # Dimensions are in the order of the file, and overrides come after it.
    assert record.variables["final_loss"].dims == ("rtol", "seed")
    np.testing.assert_array_equal(record["final_loss"], [[0, 1], [10, 11], [20, nan]])
    np.testing.assert_array_equal(record["worst_balance"], [[0, 1], [0, 1], [0, nan]])
    np.testing.assert_array_equal(record["T1"], [[nan, nan], [0.5, 0.5], [0.5, nan]])
    np.testing.assert_array_equal(record["loss"][2], [[0, 1], [1, 2], [2, nan]])
    assert record["result"][2].tolist() == ["end_time", "missing"]
    assert record.stats == {"points": 6, "done": 5}
    assert record.result == "cancelled"


def test_descents_have_an_axis_of_all_their_rates(tmp_path):
    plan = planned(tmp_path, "descent: {learning_rates: {sweep: [[0.1, 0.02], [0.05]]}}")
    for point, rates in zip(plan.points, ([0.1, 0.02], [0.05]), strict=True):
        row = {"max_drift": 1.0, "loss": 1.0, "steps": 3, "diverged": False}
        rows = [row | {"learning_rate": rate, "relative_drift": 2 * rate} for rate in rates]
        put(tmp_path, point, {"flow": {"result": "end_time"}, "descent": rows}, loss=[1, 1, 1])
    record = collect(plan, tmp_path, {point.key: DONE for point in plan.points})
    assert record.coords["learning_rate"].tolist() == [0.02, 0.05, 0.1]
    nan = np.nan
    expected = [[0.04, nan], [nan, 0.1], [0.2, nan]]
    np.testing.assert_allclose(record["relative_drift"], expected)
    assert record.variables["relative_drift"].dims == ("learning_rate", "learning_rates")


def test_series_are_joined_where_their_times_agree(tmp_path):
    """A run that ended before is filled as far as it goes, whichever comes first."""
    plan = planned(tmp_path, "seed: {sweep: [0, 1, 2]}")
    short, whole, other = plan.points
    summary = {"flow": {"result": "end_time"}}
    put(tmp_path, short, summary, (0.0, 1.0, 1.5), loss=[3, 2, 9], grad_norm=[1, 1, 1])
    put(tmp_path, whole, summary, (0.0, 1.0, 2.0, 3.0), loss=[4, 3, 2, 1], grad_norm=[1, 1, 1, 1])
    put(tmp_path, other, summary, (0.0, 0.7, 2.0, 3.0), grad_norm=[1, 1, 1, 1])
    record = collect(plan, tmp_path, {point.key: DONE for point in plan.points})
    nan = np.nan
    assert record.time.tolist() == [0, 1, 2, 3]
    np.testing.assert_array_equal(record["loss"][:, 0], [3, 2, nan, nan])
    np.testing.assert_array_equal(record["loss"][:, 1], [4, 3, 2, 1])
    assert record.attrs["left_out"] == {"grad_norm": "its axes differ from point to point"}


def test_what_is_too_large_is_left_out_and_said(tmp_path, monkeypatch):
    monkeypatch.setattr("gradflow.sweep.record._SERIES", 40)
    plan = planned(tmp_path, "seed: {sweep: [0, 1]}")
    for point in plan.points:
        put(tmp_path, point, {"flow": {"result": "end_time"}}, loss=[1, 2, 3])
    record = collect(plan, tmp_path, {point.key: DONE for point in plan.points})
    assert "loss" not in record
    assert list(record.attrs["left_out"]) == ["loss"]


def test_zipped_values_are_coordinates_of_one_axis_also_in_the_file(tmp_path):
    text = "seed: {sweep: [3, 4], zip: case}\nprecision: {sweep: [float32, float64], zip: case}"
    plan = planned(tmp_path, text)
    for point in plan.points:
        put(tmp_path, point, {"flow": {"result": "end_time", "loss": 2.0}}, loss=[1, 2, 3])
    record = collect(plan, tmp_path, {point.key: DONE for point in plan.points})
    storage.write_trajectory(tmp_path / storage.SWEEP, record)
    data = storage.read_trajectory(tmp_path / storage.SWEEP).to_xarray()
    assert data["final_loss"].dims == ("case",)
    assert data.coords["seed"].dims == ("case",)
    assert data.coords["seed"].values.tolist() == [3, 4]
    assert data.coords["precision"].values.tolist() == ["float32", "float64"]


# Figures.


def recorded(dims, values, name="final_loss", **coords):
    variable = Variable(np.asarray(values, float), dims, name.replace("_", " "))
    axes = {dim: np.asarray(labels) for dim, labels in coords.items()}
    return Trajectory({name: variable}, axes, 0.0, {}, "end_time")


WIDTHS, RATES = [8, 16, 32, 64], [0.01, 0.1, 1.0]


def test_drift_is_drawn_against_the_learning_rate_for_all_widths():
    drift = np.outer(RATES, [1, 2, 3, 4])
    record = recorded(
        ("learning_rate", "width"), drift, "relative_drift", learning_rate=RATES, width=WIDTHS
    )
    lines, heat = (shown.figure for shown in sweep.of_sweep(record))
    drawn = plotting.draw(lines, record)
    (ax,) = drawn.axes
    assert (ax.get_xscale(), ax.get_yscale()) == ("log", "log")
    assert ax.get_xlabel() == r"learning rate $\eta$"
    found = curves(ax)
    assert list(found) == [f"width {width}" for width in WIDTHS]
    for j, curve in enumerate(found.values()):
        np.testing.assert_allclose(curve.get_xydata(), np.stack([RATES, drift[:, j]], axis=1))
    check_apart(drawn)
    np.testing.assert_array_equal(heat.values, drift.T)
    assert (heat.xlabel, heat.ylabel) == (r"learning rate $\eta$", "width")


def test_seeds_are_a_median_and_a_band():
    values = np.random.default_rng(0).normal(size=(4, 11)) + 5
    record = recorded(("width", "seed"), values, width=WIDTHS, seed=range(11))
    (shown,) = sweep.of_sweep(record)
    (ax,) = plotting.draw(shown.figure, record).axes
    line = ax.lines[0]
    np.testing.assert_allclose(line.get_ydata(), np.median(values, axis=1))
    low, _, high = band(values)
    (filled,) = ax.collections
    corners = filled.get_paths()[0].vertices[:, 1]
    assert corners.min() == pytest.approx(low.min())
    assert corners.max() == pytest.approx(high.max())


def test_further_dimensions_have_a_figure_for_every_value():
    values = np.arange(24.0).reshape(4, 3, 2)
    record = recorded(
        ("width", "rtol", "precision"),
        values,
        width=WIDTHS,
        rtol=[1e-3, 1e-4, 1e-5],
        precision=["float32", "float64"],
    )
    found = {shown.figure.name: shown.figure for shown in sweep.of_sweep(record)}
    assert sorted(found) == [
        "final_loss-against-width-precision-float32",
        "final_loss-against-width-precision-float64",
        "final_loss-over-width-and-rtol-precision-float32",
        "final_loss-over-width-and-rtol-precision-float64",
    ]
    heat = found["final_loss-over-width-and-rtol-precision-float64"]
    np.testing.assert_array_equal(heat.values, values[:, :, 1].T)


def test_what_does_not_vary_is_not_drawn():
    assert not sweep.of_sweep(recorded(("width",), [2, 2, 2, 2], width=WIDTHS))
    assert not sweep.of_sweep(recorded(("case",), [1, 2], case=["a", "b"]))


def test_the_loss_along_the_runs_has_a_line_for_every_value():
    times = np.linspace(0, 1, 5)
    loss = np.exp(-np.outer(times, WIDTHS))
    record = Trajectory(
        {"loss": Variable(loss, ("time", "width"))},
        {"time": times, "width": np.array(WIDTHS)},
        0.0,
        {},
        "end_time",
    )
    (shown,) = sweep.of_sweep(record)
    left, right = plotting.draw(shown.figure, record).axes
    assert (left.get_xscale(), right.get_xscale()) == ("linear", "log")
    for j, curve in enumerate(curves(left).values()):
        np.testing.assert_allclose(curve.get_ydata(), loss[:, j])


@pytest.mark.parametrize(("rows", "columns"), [(3, 3), (30, 40)])
def test_a_heat_map_shows_every_number_and_names_its_cells(rows, columns):
    values = np.geomspace(1e-3, 1, rows * columns).reshape(rows, columns)
    values[0, 0] = np.nan
    names = {"xlabel": "learning rate", "ylabel": "width", "label": "drift"}
    heat = plotting.HeatMap("h", values, np.arange(columns), np.arange(rows), **names)
    drawn = plotting.draw(heat, None)
    ax, bar = drawn.axes
    (mesh,) = ax.collections
    np.testing.assert_array_equal(mesh.get_array().mask.ravel(), np.isnan(values).ravel())
    np.testing.assert_array_equal(mesh.get_array().compressed(), values[np.isfinite(values)])
    assert (ax.get_xlabel(), ax.get_ylabel(), bar.get_ylabel()) == tuple(names.values())
    assert bar.get_yscale() == "log"
    for axis, count in ((ax.xaxis, columns), (ax.yaxis, rows)):
        assert all(int(text) < count for text in ticks(axis))
        assert 2 <= len(ticks(axis)) <= 8
    written = [text.get_text() for text in ax.texts]
    assert len(written) == (rows * columns - 1 if rows == 3 else 0)


def test_a_heat_map_without_a_number_is_not_drawn():
    names = {"xlabel": "x", "ylabel": "y", "label": "z"}
    assert (
        plotting.render(plotting.HeatMap("h", np.full((1, 2), np.nan), [1, 2], [1], **names), None)
        == {}
    )
    with pytest.raises(ValueError, match=r"values of shape \(2, 1\) for a grid of shape \(1, 2\)"):
        plotting.HeatMap("h", np.ones((2, 1)), [1, 2], [1], **names)
