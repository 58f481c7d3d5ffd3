"""Figures of a comparison: what is drawn of it, and what is left out."""

from dataclasses import replace

import numpy as np
import pytest
from pages import check_apart, curves

from gradflow.analysis import fitted_order
from gradflow.comparison import figures
from gradflow.plotting import draw, render
from gradflow.trajectory import Trajectory, Variable

LADDER = tuple(0.02 / 2**i for i in range(8))
CONSERVED = ("balance_mlp", "balance_attention")


def grown(times):
    return times / (1 + times)


def loss(times):
    return 0.69 / (1 + (times / 14.0) ** 1.1)


def sharpness(times):
    return 12 + 210 * np.exp(-(np.log((times + 0.3) / 9.0) ** 2) / 3)


def comparison(rates=LADDER, diverged=(), modified=True) -> Trajectory:
    """A made-up comparison in the likeness of the co-occurrence transformer's.

    Descents that diverge do so from t = 8, and are lost at t = 40.
    """
    rates = np.array(rates)
    times = {
        "time": np.concatenate([[0.0], np.geomspace(0.03, 300.0, 149)]),
        "time_sharpness": np.concatenate([[0.0], np.geomspace(0.1, 300.0, 74)]),
    }
    matched = {axis: np.round(t[:, None] / rates) * rates for axis, t in times.items()}

    def diverging(t):
        factor = np.exp(np.clip(t - 8.0, 0.0, 32.0) * 5)
        factor[t > 40.0] = np.nan
        return np.where(np.isin(rates, diverged), factor, 1.0)

    t, s = matched.values()
    edge = np.minimum(sharpness(s), 2 / rates * (1 + 0.06 * np.sin(37.0 * s)))
    observed = {
        "loss": (loss(t), 3 * rates * grown(t) * loss(t) * (1 + 0.5 * np.sin(t)), "training loss"),
        "sharpness": (sharpness(s), edge * (1 + 5 * rates) - sharpness(s), "sharpness"),
        "balance_mlp": (1e-8 * grown(s), rates * grown(s / 10), "drift of the balance of the MLP"),
        "balance_attention": (
            2e-9 * grown(s),
            0.3 * rates * grown(s / 3),
            "drift of the balance of attention",
        ),
    }
    relative, distance = rates * grown(t) * (1 + 20 * rates * t / 300), 4.0 * grown(t / 3)
    drifts = {"drift": relative * distance, "relative_drift": relative}
    if modified:
        second = 0.8 * rates**2 * grown(t)
        drifts |= {"modified_drift": second * distance, "modified_relative_drift": second}

    dims = {axis: (axis, "learning_rate") for axis in times}
    variables = {f"matched_{axis}": Variable(m, dims[axis]) for axis, m in matched.items()}
    for name, drift in drifts.items():
        variables[name] = Variable(drift * diverging(t), dims["time"])
    for name, (flow, difference, label) in observed.items():
        axis = "time" if name == "loss" else "time_sharpness"
        difference = difference * diverging(matched[axis])
        variables[name] = Variable(flow + difference, dims[axis], label)
        variables[f"{name}_difference"] = Variable(difference, dims[axis])
    return Trajectory(variables, times | {"learning_rate": rates}, 300.0, {}, "end_time")


def drawn(run, name, marks=None):
    (figure,) = (figure for figure in figures(run, CONSERVED) if figure.name == name)
    return draw(figure, run, marks)


def entries(canvas):
    """The legends, as lists of texts."""
    return [[text.get_text() for text in legend.get_texts()] for legend in canvas.legends]


def without(run, *names):
    return replace(run, variables={k: v for k, v in run.variables.items() if k not in names})


MARKS = {"T_half": 1.2, "T1": 14.3}
NAMES = ["drift", "drift-order", "edge-of-stability", "descent-loss", "conserved"]
RUNS = {
    "one": comparison(LADDER[1:2]),
    "three": comparison((0.0025, 0.01, 0.005)),
    "eight, one diverged": comparison(diverged=(0.02,)),
    "small rates": comparison(tuple(6.25e-5 * 2**i for i in range(4))),
    "all diverged": comparison((0.01, 0.02), diverged=(0.01, 0.02)),
}


@pytest.mark.parametrize("run", RUNS.values(), ids=RUNS)
@pytest.mark.parametrize("marks", [MARKS, None], ids=["marks", "no marks"])
def test_nothing_stands_on_anything_else(run, marks):
    for figure in figures(run, CONSERVED):
        check_apart(draw(figure, run, marks))


def test_drift_is_that_at_the_descents_own_times():
    run = RUNS["three"]
    left, right = drawn(run, "drift").axes
    for ax, name in ((left, "relative_drift"), (right, "modified_relative_drift")):
        assert (ax.get_xscale(), ax.get_yscale()) == ("log", "log")
        assert list(curves(ax)) == [rf"$\eta = {rate}$" for rate in (0.01, 0.005, 0.0025)]
        for column, rate in enumerate((0.0025, 0.01, 0.005)):
            x, y = curves(ax)[rf"$\eta = {rate}$"].get_data()
            moved = run["matched_time"][:, column] > 0
            np.testing.assert_array_equal(x, run["matched_time"][moved, column])
            np.testing.assert_array_equal(y, run[name][moved, column])
    assert left.get_ylabel() == "relative drift, flow"
    assert right.get_ylabel() == "relative drift, modified flow"
    assert len(drawn(run, "drift").legends) == 1


def test_without_a_modified_flow_there_is_one_panel():
    run = comparison(LADDER, modified=False)
    assert len(drawn(run, "drift").axes) == 1
    (texts,) = entries(drawn(run, "drift-order"))
    assert texts[1:] == ["slope 1"]


@pytest.mark.parametrize("name", ["edge-of-stability", "descent-loss", "conserved"])
def test_a_rate_has_its_colour_everywhere_and_the_flow_is_black(name):
    run = RUNS["eight, one diverged"]
    drift = curves(drawn(run, "drift").axes[0])
    rates = [label for label in drift if label.startswith(r"$\eta")]
    assert len({drift[rate].get_color() for rate in rates}) == 8
    for ax in drawn(run, name).axes:
        lines = curves(ax)
        assert list(lines)[:9] == [*rates, "flow"]
        for rate in rates:
            assert lines[rate].get_color() == drift[rate].get_color()
        assert lines["flow"].get_color() == "#000000"


def test_the_order_is_fitted_at_the_last_time_to_those_that_have_not_diverged():
    run = RUNS["eight, one diverged"]
    canvas = drawn(run, "drift-order", MARKS)
    (ax,) = canvas.axes
    assert (ax.get_xscale(), ax.get_yscale()) == ("log", "log")
    assert ax.get_ylabel() == "drift of descent at $t = 300$"
    assert ax.get_xlabel() == r"learning rate $\eta$"
    rates = np.array(LADDER[1:])
    for line, name in zip(ax.lines[:2], ("drift", "modified_drift"), strict=True):
        np.testing.assert_array_equal(line.get_data(), (rates, run[name][-1, 1:]))
    order = fitted_order(rates, run["drift"][-1, 1:])
    half = order.high - order.value
    (texts,) = entries(canvas)
    assert texts == [
        rf"flow: order ${order.value:.2f} \pm {half:.2f}$",
        r"modified flow: order $2.000 \pm 0.000$",
        "slope 1",
        "slope 2",
    ]
    for slope, name in ((1, "drift"), (2, "modified_drift")):
        x, y = curves(ax)[f"slope {slope}"].get_data()
        np.testing.assert_allclose(np.diff(np.log(y)) / np.diff(np.log(x)), slope)
        # Through the point in the middle.
        middle = np.median(run[name][-1, 1:] / rates**slope)
        np.testing.assert_allclose(y, middle * x**slope)


def test_the_order_is_that_before_all_have_diverged():
    run = RUNS["all diverged"]
    near = (run["relative_drift"] <= 10).any(axis=1)
    time = run.time[np.flatnonzero(near)[-1]]
    assert 8 < time < 40
    (ax,) = drawn(run, "drift-order").axes
    assert ax.get_ylabel() == f"drift of descent at $t = {time:.5g}$"


def test_two_rates_have_an_order_without_an_interval_and_one_has_none():
    (texts,) = entries(drawn(comparison((0.01, 0.001)), "drift-order"))
    assert texts[1] == "modified flow: order 2.00"
    # Where the other rate is above the edge, one is left to be fitted.
    alone = replace(comparison((0.01, 0.001)), attrs={"fitted_rates": [0.001]})
    (texts,) = entries(drawn(alone, "drift-order"))
    assert texts[1] == "modified flow"
    names = [figure.name for figure in figures(RUNS["one"], CONSERVED)]
    assert names == [name for name in NAMES if name != "drift-order"]


@pytest.mark.parametrize("rate", [0.0025, 0.005, 0.01])
def test_sharpness_stands_beside_the_limits_that_are_near(rate):
    run = RUNS["three"]
    column = list(run.coords["learning_rate"]).index(rate)
    linear, log = drawn(run, "edge-of-stability").axes
    assert (linear.get_xscale(), log.get_xscale()) == ("linear", "log")
    x, y = curves(linear)[rf"$\eta = {rate}$"].get_data()
    np.testing.assert_array_equal(x, run["matched_time_sharpness"][:, column])
    np.testing.assert_array_equal(y, run["sharpness"][:, column])
    # The flow's, as it was compared with the smallest rate.
    x, y = curves(linear)["flow"].get_data()
    np.testing.assert_array_equal(x, run["matched_time_sharpness"][:, 0])
    np.testing.assert_array_equal(y, (run["sharpness"] - run["sharpness_difference"])[:, 0])
    # The others would be at 400 and 800, the sharpness ends below 230.
    limits = [line for label, line in curves(linear).items() if label.startswith("$2/")]
    assert [line.get_label() for line in limits] == [r"$2/\eta = 200$"]
    assert list(limits[0].get_ydata()) == [200, 200]
    assert limits[0].get_color() == curves(linear)[r"$\eta = 0.01$"].get_color()
    assert linear.get_ylim()[1] < 250


@pytest.mark.parametrize("name", ["drift", "edge-of-stability", "descent-loss", "conserved"])
def test_what_is_on_its_way_to_infinity_does_not_ruin_the_axis(name):
    run = RUNS["eight, one diverged"]
    assert np.nanmax(run["loss"]) > 1e20
    axes = drawn(run, name).axes
    for ax in axes:
        x, y = curves(ax)[r"$\eta = 0.02$"].get_data()
        assert 7 < x[-1] < 12
        assert y.max() <= 10 * (222 if name == "edge-of-stability" else 1)
        # The others go on.
        assert curves(ax)[r"$\eta = 0.01$"].get_xdata()[-1] == pytest.approx(300)


def test_loss_of_flow_and_descents_on_both_time_scales():
    run = RUNS["eight, one diverged"]
    linear, log = drawn(run, "descent-loss", MARKS).axes
    assert (linear.get_xscale(), log.get_xscale()) == ("linear", "log")
    assert linear.get_yscale() == "log"
    assert linear.get_ylabel() == "training loss"
    # The flow's is known from any descent that went all the way.
    x, y = curves(linear)["flow"].get_data()
    np.testing.assert_array_equal(x, run["matched_time"][:, -1])
    np.testing.assert_array_equal(y, (run["loss"] - run["loss_difference"])[:, -1])
    flat = replace(
        run,
        variables=run.variables | {"loss": replace(run.variables["loss"], values=5 + run["loss"])},
    )
    assert drawn(flat, "descent-loss").axes[0].get_yscale() == "linear"


def test_conserved_quantities_are_the_first_two_there_are():
    run = RUNS["three"]
    left, right = drawn(run, "conserved").axes
    assert left.get_ylabel() == "drift of the balance of the MLP"
    assert right.get_ylabel() == "drift of the balance of attention"
    x, y = curves(left)["flow"].get_data()
    np.testing.assert_allclose(y, 1e-8 * x / (1 + x), rtol=1e-6)
    last = figures(run, ("lost", *CONSERVED, "loss"))[-1]
    assert [panel.ylabel for panel in last.panels] == [left.get_ylabel(), right.get_ylabel()]
    assert "conserved" not in [figure.name for figure in figures(run, ("lost",))]
    assert "conserved" not in [figure.name for figure in figures(run)]


def test_a_quantity_of_several_layers_is_drawn_by_the_largest():
    run = RUNS["three"]
    layers = {
        name: Variable(
            np.stack([run[name], 2 * run[name]], axis=2),
            (*run.variables[name].dims, "layer"),
            run.variables[name].label,
        )
        for name in ("balance_mlp", "balance_mlp_difference")
    }
    more = replace(
        run, variables=run.variables | layers, coords=run.coords | {"layer": np.arange(2)}
    )
    one, two = (curves(drawn(r, "conserved").axes[0]) for r in (run, more))
    for label, line in one.items():
        np.testing.assert_array_equal(two[label].get_ydata(), 2 * line.get_ydata())


def test_without_times_of_their_own_descents_are_drawn_at_the_times_of_comparison():
    run = without(RUNS["three"], "matched_time", "matched_time_sharpness")
    for name, times in (
        ("descent-loss", run.time),
        ("edge-of-stability", run.coords["time_sharpness"]),
    ):
        for line in curves(drawn(run, name).axes[0]).values():
            if not line.get_label().startswith("$2/"):
                np.testing.assert_array_equal(line.get_xdata(), times)


@pytest.mark.parametrize(
    ("lost", "left"),
    [
        (("drift", "modified_drift"), ["drift", *NAMES[2:]]),
        (("relative_drift", "modified_relative_drift", "drift", "modified_drift"), NAMES[2:]),
        (("sharpness", "sharpness_difference"), [*NAMES[:2], *NAMES[3:]]),
        (("loss", "loss_difference"), [*NAMES[:3], "conserved"]),
        ((f"{CONSERVED[0]}_difference", f"{CONSERVED[1]}_difference"), NAMES[:4]),
    ],
)
def test_a_figure_without_its_variables_is_left_out(lost, left):
    run = without(RUNS["three"], *lost)
    assert [figure.name for figure in figures(run, CONSERVED)] == left


def test_a_comparison_that_never_began_draws_nothing():
    never = comparison((0.01, 0.02))
    coords = {
        name: values[: 0 if name.startswith("time") else None]
        for name, values in never.coords.items()
    }
    empty = {name: replace(v, values=v.values[:0]) for name, v in never.variables.items()}
    run = replace(never, variables=empty, coords=coords)
    assert not any(render(figure, run) for figure in figures(run, CONSERVED))


def test_the_flow_is_drawn_as_far_as_the_descents_tell_it():
    run = RUNS["all diverged"]
    x, y = curves(drawn(run, "descent-loss").axes[0])["flow"].get_data()
    assert 10 < x[-1] < 40
    np.testing.assert_allclose(y, loss(x), rtol=1e-3)


def test_negative_values_are_on_a_linear_axis():
    run = RUNS["three"]
    less = replace(run.variables["loss"], values=run["loss"] - 0.1)
    shifted = replace(run, variables=run.variables | {"loss": less})
    (ax, _) = drawn(shifted, "descent-loss").axes
    assert ax.get_yscale() == "linear"
    assert curves(ax)["flow"].get_ydata().min() < 0
