"""Figures: what is drawn, where it stands, and that it looks the same twice."""

import itertools
import os
import re
import struct
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from matplotlib.colors import to_rgb
from pages import check_apart, curves, ticks

from gradflow.analysis import Band
from gradflow.plotting import ENERGY, LOSS, Figure, Line, Panel, Reference, draw, render
from gradflow.trajectory import Trajectory, Variable

MARKS = {"T_half": 1.2, "T1": 14.3}
PHASES = ("phase 1", "phase 2")
CLASSES = ("both", "first", "second", "neither")


def cooccurrence(count: int = 200) -> Trajectory:
    """A made-up run in the likeness of the co-occurrence transformer's."""
    t = np.concatenate([[0.0], np.geomspace(0.03, 300.0, count - 1)])
    rise, late = t / (t + 1.5), np.maximum(t - 10.0, 0.0)
    decay = 1.0 / (1.0 + (t / 14.0) ** 1.1)
    bump = np.exp(-(((t - 2.0) / 4.0) ** 2)) - np.exp(-0.25)
    class_loss = np.stack(
        [
            0.69 * decay * np.exp(-0.35 * rise),
            0.69 * decay * (1 + 0.40 * rise * (1 + bump)),
            0.69 * decay * (1 + 0.34 * rise * (1 + 0.9 * bump)),
            0.69 * decay * np.exp(-2.2 * rise),
        ],
        axis=1,
    )
    class_gradient = class_loss * np.array([3.0, 1.0, 1.15, 0.8]) / 6
    grown = np.log1p(late / 15.0)
    starts = np.array([[0.021, -0.034, 0.012], [0.043, -0.017, -0.025], [-0.008, 0.031, 0.052]])
    slopes = np.array([[0.05, 0.30, 0.02], [0.27, 0.04, -0.02], [-0.16, -0.14, 0.01]])
    score = starts + slopes * grown[:, None, None]
    response = np.stack([2.4 * rise, 2.2 * rise, -3.1 * rise], axis=1) + np.stack(
        [0.4 * grown, 0.45 * grown, 0.05 * grown], axis=1
    )
    loss = class_loss @ np.array([0.5, 1 / 6, 1 / 6, 1 / 6])
    one = {
        "loss": (loss, "training loss"),
        "grad_norm": (1.3 * decay**1.5, "gradient norm"),
        "min_margin": (-0.6 + 0.9 * np.log1p(t / 15.0) * rise, "smallest margin"),
        "energy_residual": (1e-9 * np.sin(t) * rise, "energy residual"),
    }
    variables = {name: Variable(values, ("time",), label) for name, (values, label) in one.items()}
    variables |= {
        "class_loss": Variable(class_loss, ("time", "class"), "loss"),
        "class_gradient": Variable(class_gradient, ("time", "class"), "gradient mass"),
        "attention_score": Variable(score, ("time", "key", "query"), "attention score"),
        "response": Variable(response, ("time", "word"), "response"),
    }
    words = np.arange(1, 4)
    coords = {"time": t, "class": np.array(CLASSES), "key": words, "query": words, "word": words}
    return Trajectory(variables, coords, 300.0, {}, "end_time")


def pair(key, query, kind, colour, dash):
    name = f"{kind} ({key}, {query})"
    return Line("attention_score", {"key": key, "query": query}, name, colour, dash)


# A colour for every kind of pair, a dash for every pair of a kind.
ATTENTION = Panel(
    (
        pair(2, 1, "target, target", "vermillion", "solid"),
        pair(1, 2, "target, target", "vermillion", "dashed"),
        pair(3, 1, "common, target", "blue", "solid"),
        pair(3, 2, "common, target", "blue", "dashed"),
        pair(1, 3, "target, common", "green", "solid"),
        pair(2, 3, "target, common", "green", "dashed"),
        pair(1, 1, "same word", "purple", "solid"),
        pair(2, 2, "same word", "purple", "dashed"),
        pair(3, 3, "same word", "purple", "dotted"),
    ),
    ylabel=r"attention score $\mu_i^\top W_K^\top W_Q\,\mu_j$",
)
CLASS_LOSS = Panel(
    (
        Line("loss", label="all samples", colour="black"),
        Line("class_loss", {"class": "both"}, "both targets"),
        Line("class_loss", {"class": "first"}, r"only $\mu_1$"),
        Line("class_loss", {"class": "second"}, r"only $\mu_2$"),
        Line("class_loss", {"class": "neither"}, "no target"),
    ),
    ylabel=r"training loss $\hat L$",
    yscale="log",
)
RESPONSE = Panel(
    tuple(Line("response", {"word": i}, rf"$G(\mu_{i})$") for i in (1, 2, 3)),
    ylabel=r"response $G(\mu)$",
    references=(Reference(0.0),),
)


def balance(trajectory):
    first = trajectory.sel("class_gradient", **{"class": "first"})
    second = trajectory.sel("class_gradient", **{"class": "second"})
    return trajectory.times("class_gradient"), first / second


BALANCE = Panel(
    (Line(balance, label="$S_2/S_3$"),),
    ylabel="balance $S_2/S_3$",
    yscale="log",
    references=(Reference(0.5, 2.0, "between 1/2 and 2"), Reference(1.0)),
)
FIGURES = {
    "attention": Figure.both_time_scales("attention", ATTENTION, "Attention scores."),
    "class_loss": Figure.both_time_scales("class_loss", CLASS_LOSS),
    "paper": Figure("paper", (ATTENTION, CLASS_LOSS)),
    "balance": Figure("balance", (replace(RESPONSE, xscale="log"), replace(BALANCE, xscale="log"))),
    "margin": Figure("margin", (Panel((Line("min_margin"),), yscale="symlog", xscale="log"),)),
    "loss": LOSS,
    "energy": ENERGY,
}


@pytest.fixture(scope="module")
def run():
    return cooccurrence()


def series(values, **more):
    """A trajectory of one variable `y` at the times 0, 1, 2..."""
    variable = Variable(np.asarray(values, dtype=float), ("time",), **more)
    return Trajectory({"y": variable}, {"time": np.arange(len(values))}, 1.0, {}, "end_time")


def alone(**panel):
    return Figure("y", (Panel((Line("y"),), **panel),))


def marked(ax):
    """Where the marks are drawn."""
    return [x[0] for x, y in (line.get_data() for line in ax.lines) if list(y) == [0, 1]]


def names(ax):
    return {text.get_text(): text for text in ax.texts}


# What is drawn


def test_every_curve_is_its_series(run):
    for ax, start in zip(draw(FIGURES["attention"], run).axes, (0, 1), strict=True):
        drawn = curves(ax)
        assert len(drawn) == 9
        for line in ATTENTION.lines:
            x, y = drawn[line.label].get_data()
            np.testing.assert_array_equal(x, run.time[start:])
            np.testing.assert_array_equal(y, run.sel("attention_score", **line.select)[start:])
    assert draw(FIGURES["attention"], run).axes[1].get_xscale() == "log"


def test_a_curve_may_be_computed_from_several_series(run):
    x, y = curves(draw(FIGURES["balance"], run).axes[1])["$S_2/S_3$"].get_data()
    np.testing.assert_array_equal(x, run.time[1:])
    expected = run["class_gradient"][1:, 1] / run["class_gradient"][1:, 2]
    np.testing.assert_array_equal(y, expected)


def test_the_energy_residual_is_drawn_in_absolute_value(run):
    (line,) = draw(ENERGY, run).axes[0].lines
    shown = run["energy_residual"] != 0
    np.testing.assert_array_equal(line.get_ydata(), np.abs(run["energy_residual"])[shown])


def test_curves_differ_in_colour_and_in_dashes(run):
    lines = Panel(tuple(Line("loss", label=str(i)) for i in range(6)))
    drawn = draw(Figure("six", (lines,)), run).axes[0].lines
    assert len({line.get_color() for line in drawn}) == 6
    assert len({str(line._dash_pattern) for line in drawn}) == 6


def test_colour_and_dash_can_be_chosen(run):
    drawn = curves(draw(FIGURES["attention"], run).axes[0])
    assert drawn["target, target (2, 1)"].get_color() == drawn["target, target (1, 2)"].get_color()
    assert drawn["target, target (2, 1)"].get_linestyle() == "-"
    assert drawn["target, target (1, 2)"].get_linestyle() == "--"


def test_a_variable_is_drawn_against_its_own_times(run):
    times = np.array([1.0, 2.0, 4.0])
    late = Variable(np.array([3.0, 2.0, 1.0]), ("time_sharpness",), "sharpness")
    more = replace(
        run,
        variables=run.variables | {"sharpness": late},
        coords=run.coords | {"time_sharpness": times},
    )
    ax = draw(Figure("s", (Panel((Line("sharpness"), Line("loss"))),)), more).axes[0]
    np.testing.assert_array_equal(curves(ax)["sharpness"].get_xdata(), times)
    np.testing.assert_array_equal(curves(ax)["training loss"].get_xdata(), run.time)


def test_labels_come_from_the_trajectory_unless_given(run):
    lines = Panel((Line("class_loss", {"class": "both"}), Line("loss")))
    ax = draw(Figure("l", (lines,)), run).axes[0]
    assert list(curves(ax)) == ["class both", "training loss"]
    assert ax.get_ylabel() == "loss"
    assert ax.get_xlabel() == "time $t$"
    metres = series([1.0, 2.0], label="length", units="m")
    assert draw(alone(), metres).axes[0].get_ylabel() == "length (m)"
    assert draw(alone(ylabel="far"), metres).axes[0].get_ylabel() == "far"
    assert draw(alone(), series([1.0, 2.0])).axes[0].get_ylabel() == "y"


# What is left out


def test_a_logarithmic_axis_leaves_out_what_it_cannot_show():
    gone = series([1.0, np.nan, -1.0, 0.0, 2.0, np.inf, 3.0, 1e308])
    cases = [("linear", [0, 2, 3, 4, 6]), ("log", [0, 4, 6]), ("symlog", [0, 2, 3, 4, 6])]
    for yscale, kept in cases:
        x, y = draw(alone(yscale=yscale), gone).axes[0].lines[0].get_data()
        np.testing.assert_array_equal(x, kept)
        np.testing.assert_array_equal(y, gone["y"][kept])
    (x, _) = draw(alone(yscale="log", xscale="log"), gone).axes[0].lines[0].get_data()
    np.testing.assert_array_equal(x, [4, 6])


def test_the_time_axis_covers_the_values_that_were_lost():
    blown_up = series([1.0, 2.0, 3.0, np.nan, np.nan])
    assert draw(alone(), blown_up).axes[0].get_xlim() == (0, 4)
    assert draw(alone(xscale="log"), blown_up).axes[0].get_xlim() == (1, 4)


@pytest.mark.parametrize("values", [[2.0], [1.0, 2.0], [np.nan, 1.0, np.nan]])
def test_one_or_two_points_are_dots(values):
    assert draw(alone(), series(values)).axes[0].lines[0].get_marker() == "o"
    assert draw(alone(), series([1.0, 2.0, 3.0])).axes[0].lines[0].get_marker() == ""


def test_a_missing_variable_leaves_its_line_out(run):
    there = Line("loss", label="there")
    missing = (
        Line("nowhere"),
        Line("loss", {"word": 1}),
        Line("response", {"word": 4}),
        Line(lambda run: (run.time, run["nowhere"])),
    )
    drawn = curves(draw(Figure("some", (Panel((*missing, there, there)),)), run).axes[0])
    assert list(drawn) == ["there"]
    # It keeps the colour that it has among all of them.
    everywhere = draw(Figure("all", (Panel((there,) * 5),)), run).axes[0].lines[4]
    first = draw(Figure("some", (Panel((*missing, there)),)), run).axes[0].lines[0]
    assert first.get_color() == everywhere.get_color()


def test_a_figure_without_lines_is_not_drawn(run):
    nothing = Figure("nothing", (Panel((Line("nowhere"),)),))
    assert draw(nothing, run) is None
    assert render(nothing, run) == {}
    negative = alone(yscale="log")
    assert render(negative, series([-1.0, np.nan])) == {}


def test_a_panel_without_lines_leaves_a_figure_of_one_panel(run):
    half = Figure("half", (CLASS_LOSS, Panel((Line("nowhere"),))))
    drawn = draw(half, run)
    assert len(drawn.axes) == 1
    assert drawn.get_figwidth() == 3.4
    assert drawn.texts == []
    assert draw(FIGURES["paper"], run).get_figwidth() == 6.9


@pytest.mark.parametrize("panels", [(), (CLASS_LOSS,) * 3])
def test_a_figure_has_one_panel_or_two(panels):
    with pytest.raises(ValueError, match=f"{len(panels)} panels; it may have 1 or 2"):
        Figure("many", panels)


def test_a_line_is_one_value_per_time(run):
    with pytest.raises(ValueError, match=r"'loss' has .* shape \(200, 4\); select a label"):
        draw(Figure("open", (Panel((Line("class_loss"),)),)), run)
    short = Line(lambda run: (run.time, run["loss"][1:]), label="short")
    with pytest.raises(ValueError, match=r"'short' has .* shape \(199,\)"):
        draw(Figure("short", (Panel((short,)),)), run)


# Marks


def test_marks_stand_at_their_times(run):
    for ax in draw(FIGURES["class_loss"], run, MARKS | {"T2": None, "late": 301.0}).axes:
        assert marked(ax) == [1.2, 14.3]
        assert {"$T_{1/2}$", "$T_{1}$"} <= set(names(ax)) <= {*PHASES, "$T_{1/2}$", "$T_{1}$"}
    # Names stand over their lines where there is room.
    for name, time in (("$T_{1/2}$", 1.2), ("$T_{1}$", 14.3)):
        text = names(ax)[name]
        x, _ = ax.transAxes.transform(text.get_position())
        assert x == pytest.approx(ax.transData.transform((time, 1.0))[0])


def test_phases_are_named_where_there_is_room(run):
    linear, log = draw(FIGURES["class_loss"], run, MARKS).axes
    assert "phase 1" not in names(linear)
    assert set(PHASES) <= set(names(log))
    place = log.transData + log.transAxes.inverted()
    boundary = place.transform((14.3, 1.0))[0]
    assert names(log)["phase 1"].get_position()[0] < boundary
    assert names(log)["phase 2"].get_position()[0] > boundary
    (ax,) = draw(FIGURES["margin"], run, {"T_half": 1.2, "T1": None}).axes
    assert list(names(ax)) == ["$T_{1/2}$"]


@pytest.mark.parametrize(
    "marks",
    [
        {"T1": 0.0, "T2": 0.0, "T3": 0.1},
        {"T1": 299.9, "T2": 300.0, "T_half": 300.0},
        {"T_half": 0.1, "T1": 150.0, "escape": 150.1, "T2": 299.0},
    ],
)
def test_names_of_marks_stand_apart_within_the_axes(run, marks):
    drawn = draw(FIGURES["margin"], run, marks)
    linear = draw(Figure("linear", (CLASS_LOSS,)), run, marks)
    for ax in (*drawn.axes, *linear.axes):
        boxes = sorted((text.get_window_extent() for text in ax.texts), key=lambda box: box.x0)
        assert all(left.x1 < right.x0 for left, right in itertools.pairwise(boxes))
        assert boxes[0].x0 >= ax.bbox.x0 - 1
        assert boxes[-1].x1 <= ax.bbox.x1 + 1


# References, axes, legends


def test_references_are_drawn_and_in_view(run):
    response, ratio = draw(FIGURES["balance"], run).axes
    assert [line.get_ydata()[0] for line in response.lines if len(line.get_ydata()) == 2] == [0]
    (band,) = ratio.patches
    assert (band.get_y(), band.get_y() + band.get_height()) == (0.5, 2.0)
    low, high = ratio.get_ylim()
    assert low < 0.5 < 2.0 < high
    assert np.ptp(run["class_gradient"][:, 1] / run["class_gradient"][:, 2]) < 0.1


def test_both_time_scales_share_axis_and_legend(run):
    # The largest value is at time 0, which the second panel cannot show.
    steep = Figure.both_time_scales("steep", Panel((Line("y"),)))
    linear, log = draw(steep, series([9.0, 1.0, 2.0])).axes
    assert linear.get_ylim() == log.get_ylim()
    assert log.get_ylim()[1] > 9.0
    drawn = draw(FIGURES["class_loss"], run)
    assert drawn.axes[1].get_ylabel() == ""
    assert len(drawn.legends) == 1
    assert len(drawn.legends[0].get_texts()) == 5
    assert len(draw(FIGURES["paper"], run).legends) == 2


def test_the_legend_names_references_but_not_a_curve_alone(run):
    _, right = draw(FIGURES["balance"], run).legends
    assert [text.get_text() for text in right.get_texts()] == ["$S_2/S_3$", "between 1/2 and 2"]
    assert draw(ENERGY, run).legends == []


@pytest.mark.parametrize("marks", [MARKS, None], ids=["marks", "no marks"])
@pytest.mark.parametrize("figure", FIGURES.values(), ids=FIGURES)
def test_nothing_stands_on_anything_else(run, figure, marks):
    check_apart(draw(figure, run, marks))


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (np.geomspace(0.002, 2, 9), ["0.01", "0.1", "1"]),
        (np.geomspace(1e-6, 1e-3, 9), ["$10^{-6}$", "$10^{-5}$", "$10^{-4}$", "$10^{-3}$"]),
        (np.geomspace(0.4, 6, 9), ["0.5", "1.0", "2.0", "3.0", "5.0"]),
        (np.geomspace(1.0, 1.5, 9), ["1.0", "1.1", "1.2", "1.3", "1.4", "1.5"]),
    ],
)
def test_a_logarithmic_axis_has_numbers_over_any_range(values, expected):
    assert list(ticks(draw(alone(yscale="log"), series(values)).axes[0].yaxis)) == expected


def test_a_shared_power_of_ten_stands_with_the_name_of_the_axis():
    ax = draw(alone(), series([0.0, 1e-9, 3e-9])).axes[0]
    assert ax.get_ylabel() == r"y ($\times$$10^{-9}$)"
    assert list(ticks(ax.yaxis))[-1] == "3.0"
    assert not ax.yaxis.get_offset_text().get_visible()


def test_symlog_shows_both_signs(run):
    ax = draw(FIGURES["margin"], run).axes[0]
    assert {"$-10^{-1}$", "0", "$10^{-1}$"} <= set(ticks(ax.yaxis))
    np.testing.assert_array_equal(ax.lines[0].get_ydata(), run["min_margin"][1:])


# Files


def test_files_are_the_same_every_time(run):
    figure = FIGURES["attention"]
    first, second = render(figure, run, MARKS), render(figure, cooccurrence(), MARKS)
    assert list(first) == ["png", "pdf"]
    assert first == second
    assert b"CreationDate" not in first["pdf"]
    assert b"/Type3" not in first["pdf"]
    assert b"Attention scores." in first["png"]
    assert b"Attention scores." in first["pdf"]


@pytest.mark.parametrize(("name", "inches"), [("attention", 6.9), ("margin", 3.4)])
def test_pictures_have_the_width_of_the_page(run, name, inches):
    files = render(FIGURES[name], run)
    width, _ = struct.unpack(">II", files["png"][16:24])
    assert width == round(200 * inches)
    box = re.search(rb"/MediaBox \[ 0 0 ([0-9.]+)", files["pdf"])
    assert box is not None
    assert float(box[1]) == pytest.approx(72 * inches)


SCRIPT = """
import sys
import gradflow.plotting as plotting
assert "matplotlib" not in sys.modules, "imported to describe figures"
import matplotlib, numpy
from gradflow.trajectory import Trajectory, Variable
before = matplotlib.rcParams.copy()
y = Variable(numpy.array([1.0, 2.0]), ("time",))
run = Trajectory({"loss": y}, {"time": numpy.array([0.0, 1.0])}, 1.0, {}, "end_time")
assert plotting.render(plotting.LOSS, run)
assert matplotlib.rcParams.copy() == before, "settings changed"
assert "matplotlib.pyplot" not in sys.modules, "pyplot imported"
"""


@pytest.mark.parametrize("yscale", ["linear", "log"])
def test_a_band_is_as_high_as_its_spread_says(yscale):
    """Where the curve is, and on a logarithmic axis no further down than the axis shows."""
    times, values = np.array([1.0, 2.0, 3.0, 4.0]), np.array([2.0, 4.0, -1.0, 3.0])
    spread = np.array([0.5, 9.0, 0.1, np.nan])
    variables = {
        "value": Variable(values, ("time",)),
        "error": Variable(spread, ("time",)),
    }
    run = Trajectory(variables, {"time": times}, 4.0, {}, "end_time")
    panel = Panel((Line("value", spread="error"),), yscale=yscale)
    (ax,) = draw(Figure("band", (panel,)), run).axes
    (band,) = ax.collections
    corners = {tuple(corner) for corner in band.get_paths()[0].vertices.round(12).tolist()}
    if yscale == "linear":
        assert {(1, 1.5), (1, 2.5), (2, -5), (2, 13), (3, -1.1), (3, -0.9), (4, 3)} <= corners
    else:
        assert {(1, 1.5), (1, 2.5), (2, 1), (2, 13), (4, 3)} <= corners
        assert not any(x == 3 for x, _ in corners)
    # Without what it is made of the whole line is left out, as for any other.
    lacking = Panel((Line("value", spread="lost"),))
    assert draw(Figure("band", (lacking,)), run) is None
    without = Panel((Line("value"),))
    assert not draw(Figure("band", (without,)), run).axes[0].collections


def test_an_estimated_error_is_a_band_unless_another_is_asked_for():
    values, axes = np.array([[2.0, 4.0], [3.0, 5.0], [2.0, 6.0]]), ("time", "class")
    variables = {
        "value": Variable(values, axes),
        "value_error": Variable(np.full((3, 2), 0.5), axes),
        "other": Variable(np.full((3, 2), 0.25), axes),
        "lone": Variable(values, axes),
        # Not of its axes, so not its errors.
        "lone_error": Variable(np.full(3, 0.5), ("time",)),
    }
    coords = {"time": np.arange(3.0), "class": np.array(["one", "two"])}
    run = Trajectory(variables, coords, 2.0, {}, "end_time")
    for line, half in (
        (Line("value", {"class": "two"}), 0.5),
        (Line("value", {"class": "two"}, spread="other"), 0.25),
        (Line("lone", {"class": "two"}), None),
    ):
        (ax,) = draw(Figure("band", (Panel((line,)),)), run).axes
        if half is None:
            assert not ax.collections
            continue
        corners = ax.collections[0].get_paths()[0].vertices.tolist()
        assert [1.0, 5.0 - half] in corners
        assert [1.0, 5.0 + half] in corners


# What is not time, and ordered families

RATES = np.array([1e-4, 2e-4, 8e-4, 1.6e-3])


def orders(**more):
    """A panel of two measured power laws and their slopes."""
    lines = tuple(
        Line(lambda run, k=k: (RATES, 3.0 * RATES**k), label=f"order {k}", points=True)
        for k in (1, 2)
    )
    slopes = tuple(Reference(3.0, label=f"slope {k}", slope=k) for k in (1, 2))
    panel = {"yscale": "log", "xscale": "log", "references": slopes, "xlabel": "rate"}
    return Panel(lines, "drift", **(panel | more))


def test_what_is_not_time_has_its_name_and_no_marks(run):
    drawn = draw(Figure("order", (orders(),)), run, MARKS)
    (ax,) = drawn.axes
    assert ax.get_xlabel() == "rate ($\\times$$10^{-3}$)"
    assert marked(ax) == []
    assert not ax.texts
    check_apart(drawn)
    # Nor is there a row for their names.
    assert drawn.get_figheight() == draw(Figure("order", (orders(),)), run).get_figheight()
    beside = draw(Figure("both", (orders(), CLASS_LOSS)), run, MARKS)
    assert [marked(ax) for ax in beside.axes] == [[], [1.2, 14.3]]
    check_apart(beside)


def test_points_are_markers_within_the_axes(run):
    (ax,) = draw(Figure("order", (orders(),)), run).axes
    for order, marker in ((1, "o"), (2, "s")):
        points = curves(ax)[f"order {order}"]
        np.testing.assert_array_equal(points.get_data(), (RATES, 3.0 * RATES**order))
        assert points.get_linestyle() == "None"
        assert points.get_marker() == marker
        pixels = ax.transData.transform(np.transpose(points.get_data()))
        assert (pixels > ax.bbox.min + 4).all()
        assert (pixels < ax.bbox.max - 4).all()


def test_a_reference_may_be_a_power_law(run):
    (ax,) = draw(Figure("order", (orders(),)), run).axes
    for order in (1, 2):
        x, y = curves(ax)[f"slope {order}"].get_data()
        np.testing.assert_allclose(y, 3.0 * x**order)
        assert tuple(x) == ax.get_xlim()
    for scale in ({"xscale": "linear"}, {"yscale": "linear"}):
        with pytest.raises(ValueError, match="a slope needs two logarithmic axes"):
            orders(**scale)


def test_a_reference_may_have_a_colour_and_a_dash(run):
    limits = (Reference(0.1, colour="blue", dash="dotted"), Reference(0.2))
    (ax,) = draw(Figure("l", (replace(CLASS_LOSS, references=limits),)), run).axes
    blue, grey = (line for line in ax.lines if line.get_label().startswith("_"))
    assert (blue.get_color(), blue.get_linestyle()) == ("#0072B2", "--")
    assert (grey.get_color(), grey.get_linestyle()) == ("0.5", "-")


def family(count):
    places = np.linspace(0.0, 1.0, count)
    lines = tuple(Line("loss", label=str(i), colour=float(at)) for i, at in enumerate(places))
    return Panel(lines, "loss")


def test_an_ordered_family_grows_darker_in_steps_that_can_be_seen(run):
    drawn = curves(draw(Figure("family", (family(8),)), run).axes[0]).values()
    colours = np.array([to_rgb(line.get_color()) for line in drawn])
    linear = np.where(colours <= 0.04045, colours / 12.92, ((colours + 0.055) / 1.055) ** 2.4)
    luminance = linear @ [0.2126, 0.7152, 0.0722]
    # By the definitions of WCAG and CIE: contrast with white paper and between neighbours.
    assert (1.05 / (luminance + 0.05)).min() > 2.2
    lightness = 116 * np.cbrt(luminance) - 16
    assert (np.diff(lightness) < -7).all()
    assert len({str(line._dash_pattern) for line in list(drawn)[:6]}) == 6


def test_legends_that_say_the_same_are_one(run):
    three, two = family(3), replace(family(3), lines=family(3).lines[1:], ylabel="other")
    shared = draw(Figure("one", (three, two)), run)
    (legend,) = shared.legends
    assert [text.get_text() for text in legend.get_texts()] == ["0", "1", "2"]
    check_apart(shared)
    # The axes are not one.
    assert shared.axes[1].get_ylabel() == "other"
    # The same names in other colours are not the same.
    other = replace(
        three, ylabel="other", lines=tuple(replace(line, colour=None) for line in three.lines)
    )
    assert len(draw(Figure("two", (three, other)), run).legends) == 2


def test_a_curve_alone_is_in_the_legend_if_the_axis_does_not_name_it(run):
    labelled = Panel((Line("loss", label="all samples"),), "loss")
    (legend,) = draw(Figure("alone", (labelled,)), run).legends
    assert [text.get_text() for text in legend.get_texts()] == ["all samples"]


@pytest.mark.parametrize("highest", [5e-4, 3e-3, 8e-3, 2e-2])
def test_numbers_along_x_stand_apart_over_any_range(run, highest):
    rates = np.array([1.1e-4, highest])
    line = Line(lambda run: (rates, rates), points=True)
    panel = Panel((line,), "drift", "log", "log", xlabel="rate")
    drawn = draw(Figure("x", (panel, panel)), run)
    assert len(ticks(drawn.axes[0].xaxis)) >= 2
    check_apart(drawn)


def test_matplotlib_is_imported_late_and_left_as_it_was():
    path = os.pathsep.join([str(Path(__file__).parents[1]), os.environ.get("PYTHONPATH", "")])
    command = [sys.executable, "-c", SCRIPT]
    done = subprocess.run(command, env=os.environ | {"PYTHONPATH": path}, capture_output=True)
    assert done.returncode == 0, done.stderr.decode()


# Ensembles


def ensemble(seeds=21):
    """Made-up runs of many seeds, of which the last ends early."""
    times = np.array([0.5, 1.0, 2.0, 4.0])
    values = times[:, None] * np.arange(1.0, seeds + 1)
    values[2:, -1] = np.nan
    both = np.stack([values, -values], axis=1)
    variables = {
        "value": Variable(values, ("time", "seed"), "value"),
        "value_error": Variable(np.full(values.shape, 1e3), ("time", "seed")),
        "both": Variable(both, ("time", "sign", "seed")),
    }
    coords = {"time": times, "sign": np.array(["up", "down"]), "seed": np.arange(seeds)}
    return Trajectory(variables, coords, 4.0, {}, "end_time")


@pytest.mark.parametrize("yscale", ["linear", "log"])
@pytest.mark.parametrize(
    "line",
    [
        Line("value"),
        Line("both", {"sign": "up"}),
        Line(lambda run: (run.times("both"), -run.sel("both", sign="down")), label="turned"),
    ],
    ids=["plain", "labelled", "derived"],
)
def test_of_seeds_the_median_is_drawn_in_the_band_of_eight_in_ten(line, yscale):
    (ax,) = draw(Figure("seeds", (Panel((line,), yscale=yscale),)), ensemble()).axes
    (curve,) = ax.lines
    assert curve.get_xydata().tolist() == [[0.5, 5.5], [1.0, 11.0], [2.0, 21.0], [4.0, 42.0]]
    (band,) = ax.collections
    corners = {tuple(corner) for corner in band.get_paths()[0].vertices.round(9).tolist()}
    assert {(0.5, 1.5), (0.5, 9.5), (1.0, 3.0), (1.0, 19.0), (2.0, 5.8), (2.0, 36.2)} <= corners
    (legend,) = ax.figure.legends
    assert "median and 10 to 90 % of 21 seeds" in [text.get_text() for text in legend.texts]


def test_an_axis_left_open_is_not_taken_for_seeds():
    with pytest.raises(ValueError, match="select a label on every other axis"):
        draw(Figure("open", (Panel((Line("both"),)),)), ensemble())


def test_a_mark_over_seeds_is_a_line_within_a_band():
    marks = {"T1": Band(np.array(0.8), np.array(1.0), np.array(1.5)), "T_half": None}
    (ax,) = draw(Figure("marks", (Panel((Line("value"),)),)), ensemble(), marks).axes
    (span,) = [patch for patch in ax.patches if patch.get_width() < 1]
    assert (span.get_x(), span.get_width()) == pytest.approx((0.8, 0.7))
    assert next(iter(names(ax))) == "$T_{1}$"
    assert [line.get_xdata()[0] for line in ax.lines if len(line.get_xdata()) == 2] == [1.0]
