"""When flow and descents are compared, and what is read off a comparison."""

import numpy as np
import pytest

import gradflow as gf
from gradflow.comparison.lattice import explicit, lattice
from gradflow.comparison.record import RATE
from gradflow.comparison.report import findings, last_row, numbers, stability, summary, worst
from gradflow.descent import whole_steps
from gradflow.trajectory import Trajectory, Variable, nearest_rows


def draw(rng):
    """Save times, an end and learning rates, of all kinds."""
    t1 = float(np.exp(rng.uniform(-2, 4)))
    count = int(rng.integers(2, 40))
    save = [
        gf.Linear(count=count),
        gf.Logarithmic(count=count + 1),
        gf.Explicit(times=tuple(np.unique(rng.uniform(0, t1, count)).tolist())),
    ][rng.integers(3)]
    largest = t1 * float(np.exp(rng.uniform(-8, 0)))
    kind = rng.integers(3)
    if kind == 0:  # that divide each other
        rates = [largest / k for k in (1, 2, 4, 8)]
    elif kind == 1:  # nearly the same
        rates = (largest * (1 - 0.1 * rng.uniform(size=4))).tolist()
    else:
        rates = (largest * rng.uniform(0.02, 1, size=int(rng.integers(1, 6)))).tolist()
    rng.shuffle(rates)
    return save, t1, rates, [whole_steps(rate, t1)[1] for rate in rates]


def test_properties_of_any_lattice():
    rng = np.random.default_rng(0)
    for _ in range(1000):
        save, t1, rates, most = draw(rng)
        found = lattice(save, t1, rates, most)
        times, matched, steps = found.times, found.matched, found.steps
        every = np.asarray(rates)
        largest = int(np.argmax(every))
        assert (np.diff(times) > 0).all()
        assert steps.dtype.kind == "i"
        assert matched.shape == steps.shape == (len(times), len(rates))
        # Each is the time of a whole step that the descent has, to rounding.
        np.testing.assert_allclose(matched, steps * every, rtol=1e-12)
        assert (steps >= 0).all()
        assert (steps <= most).all()
        assert (np.diff(steps, axis=0) >= 0).all()
        assert times[-1] <= t1
        assert (matched <= t1).all()
        # The largest rate is there exactly, another within half of its own step, unless the
        # nearest step would lie beyond the end: then it is the last that does not.
        np.testing.assert_array_equal(matched[:, largest], times)
        nearest = np.abs(matched - times[:, None]) <= (0.5 + 1e-9) * every
        assert (nearest | (steps == most)).all()
        assert (np.abs(matched - times[:, None]) < every * (1 + 1e-9)).all()
        # Each save time is compared as near as half a step of the largest rate, or at the end.
        nominal = save.build(t1)
        np.testing.assert_array_equal(found.nominal, nominal)
        away = np.abs(times[:, None] - nominal).min(axis=0)
        last = most[largest] * every[largest]
        assert (away <= np.maximum(0.5 * every[largest], nominal - last) * (1 + 1e-9)).all()
        # No time of comparison is there for nothing.
        assert len(times) <= len(nominal)
        # The flow records all of these, the save times as they were asked for, and none twice.
        assert np.isin(nominal, found.flow).all()
        assert nearest_rows(found.flow, matched.ravel())[1].all()
        assert (np.diff(found.flow) > 1e-12 * found.flow[1:]).all()
        assert explicit(found.flow).build(t1).tolist() == found.flow.tolist()


def test_a_rate_whose_last_step_is_earlier_than_its_nearest():
    """8 / 0.9 is nearest to 9 steps, of which 8 fit; at t = 7 the third rate is ahead of that."""
    found = lattice(gf.Explicit(times=(0.0, 7.0, 8.0)), 8.0, [1.0, 0.9, 0.557], [8, 8, 14])
    assert found.steps.tolist() == [[0, 0, 0], [7, 8, 13], [8, 8, 14]]
    assert found.matched[1, 2] > found.matched[2, 1] == pytest.approx(7.2)


def test_a_rate_that_divides_the_save_times_is_compared_there():
    found = lattice(gf.Linear(count=11), 1.0, [0.05, 0.1, 0.02], [20, 10, 50])
    np.testing.assert_allclose(found.times, np.linspace(0, 1, 11), rtol=1e-15)
    np.testing.assert_allclose(found.matched, found.times[:, None] * np.ones(3), rtol=1e-15)
    # The same time as a multiple of several rates counts once, as it was asked for.
    assert found.flow.tolist() == np.linspace(0, 1, 11).tolist()


def test_steps_that_miss_save_times_by_a_rounding():
    """0.29 x 100 is 28.999999999999996."""
    save = gf.Linear(count=101)
    found = lattice(save, 29.0, [0.29], [100])
    assert found.flow.tolist() == save.build(29.0).tolist()
    assert found.steps[:, 0].tolist() == list(range(101))


def test_the_rows_of_given_times():
    times = np.array([0.0, 0.1, 0.2, 0.7])
    rows, known = nearest_rows(times, np.array([0.0, 0.1 + 1e-17, 0.1 + 1e-6, 0.4, 0.69, 9.0]))
    assert rows.tolist() == [0, 1, 1, 2, 3, 3]
    assert known.tolist() == [True, True, False, False, False, False]
    rounded = times.astype(np.float32).astype(float)
    rows, known = nearest_rows(rounded, times)
    assert rows.tolist() == [0, 1, 2, 3]
    assert known.all()
    assert nearest_rows(np.array([0.5]), np.array([0.0, 0.5, 2.0]))[1].tolist() == [
        False,
        True,
        False,
    ]
    rows, known = nearest_rows(np.empty(0), np.array([0.0, 1.0]))
    assert not known.any()


RATES = np.array([0.1, 0.05, 0.025])


def record(drift, **attrs):
    """A comparison of three rates with the given drifts, relative ones being the same."""
    drift = np.asarray(drift, float).reshape(-1, 3)
    dims = ("time", RATE)
    order = np.full(len(drift), 1.5)
    variables = {
        "drift": Variable(drift, dims),
        "relative_drift": Variable(drift, dims),
        "drift_order": Variable(order, ("time",)),
        "drift_order_low": Variable(order - 0.1, ("time",)),
        "drift_order_high": Variable(order + 0.1, ("time",)),
    }
    coords = {"time": np.arange(len(drift)) * 1.0, RATE: RATES}
    return Trajectory(variables, coords, 0.0, {}, "end_time", attrs=attrs)


NAN = np.nan


@pytest.mark.parametrize(
    ("drift", "row"),
    [
        ([[0, 0, 0], [3, 2, 1], [6, 4, 2]], 2),
        ([[0, 0, 0], [3, 2, 1], [NAN, 4, 2]], 1),  # one fewer at the end
        ([[0, 0, 0], [NAN, 2, 1], [NAN, 4, 2], [NAN, NAN, 3]], 2),  # gone before the first time
        ([[0, 0, 0], [NAN, NAN, NAN]], 1),  # nothing left but the start
        ([[0, 0, 0]], 0),
        ([], 0),
    ],
)
def test_the_last_row_with_the_most_descents(drift, row):
    assert last_row(record(drift)) == row


def test_the_worst_relative_drift():
    found = worst(np.array([[NAN, NAN, NAN, NAN], [0.3, 0.2, NAN, 0.1], [0.1, NAN, NAN, 0.4]]))
    # Of those that came to the end: not the second, which was lost, nor one never measured.
    np.testing.assert_array_equal(found, [0.3, NAN, NAN, 0.4])
    assert np.isnan(worst(np.empty((0, 2)))).all()


def test_numbers():
    found = numbers(record([[NAN] * 3, [0.02, 0.01, 0.005], [0.04, 0.02, 0.008]]), 0.02)
    assert found["time"] == 2.0
    np.testing.assert_allclose(found["order"], [1.5, 1.4, 1.6])
    assert found["largest_rate"] == pytest.approx(0.05)
    assert "modified_order" not in found
    assert numbers(record([[NAN] * 3, [0.04, 0.02, 0.008]]), 0.001)["largest_rate"] is None
    # Beyond the largest rate that was run nothing is said.
    assert numbers(record([[NAN] * 3, [0.04, 0.02, 0.008]]), 1.0)["largest_rate"] == 0.1
    # Between two of them, by the power law through both.
    found = numbers(record([[NAN] * 3, [0.04, 0.02, 0.01]]), 0.03)
    assert found["largest_rate"] == pytest.approx(0.075)
    found = numbers(record([]), 0.02)
    assert found["time"] == 0.0
    assert found["largest_rate"] is None


def descent(sharpness, loss=(1.0,), diverged=False, **stats):
    """What is read of a descent."""
    times = np.arange(len(sharpness)) * 1.0
    variables = {
        "sharpness": Variable(np.asarray(sharpness, float), ("time",)),
        "loss": Variable(np.asarray(loss, float), ("time_loss",)),
    }
    coords = {"time": times, "time_loss": np.arange(len(loss)) * 1.0}
    stats = {
        "diverged": diverged,
        "steps": 3,
        "gradient_evaluations": 3,
        "wall_seconds": 0.1,
        **stats,
    }
    return Trajectory(variables, coords, 7.5, stats, "diverged" if diverged else "end_time")


def test_crossings_of_the_limit():
    flow = descent([10.0, 30.0, 10.0])
    descents = [descent([10.0, 30.0]), descent([50.0, 30.0]), descent([10.0, 30.0])]
    rows = stability(RATES, [True, True, False], flow, descents)
    # 2 / 0.1 = 20 and 2 / 0.05 = 40; the last rate's descent is not plain.
    assert rows == [
        {"learning_rate": 0.1, "run": "flow", "limit": 20.0, "time": 0.5, "direction": 1},
        {"learning_rate": 0.1, "run": "flow", "limit": 20.0, "time": 1.5, "direction": -1},
        {"learning_rate": 0.1, "run": "descent", "limit": 20.0, "time": 0.5, "direction": 1},
        {"learning_rate": 0.05, "run": "descent", "limit": 40.0, "time": 0.5, "direction": -1},
    ]


def said(sharpness, plain=(True, True, True), diverged=False, rtol=1e-6):
    """The lines about three rates, whose limits are 20, 40 and 80."""
    drifts = record([[NAN] * 3, [0.04, 0.02, 0.01]], sharpness=sharpness, stability=[])
    drifts.attrs["fitted_rates"] = RATES.tolist()
    drifts.attrs.update(numbers(drifts, 0.02))
    descents = [descent([1.0], diverged=diverged), descent([1.0]), descent([1.0])]
    return findings(drifts, descents, plain, rtol)


AT = "learning rate {} starts at the edge of stability: sharpness {} against 2/eta = {}"
ABOVE = "learning rate {} starts above the edge of stability: sharpness {} against 2/eta = {}"


@pytest.mark.parametrize(
    ("sharpness", "lines"),
    [
        (17.9, []),
        (18.1, [AT.format(0.1, 18.1, 20)]),
        (20.0, [AT.format(0.1, 20, 20)]),
        (39.0, [ABOVE.format(0.1, 39, 20), AT.format(0.05, 39, 40)]),
        (NAN, []),
    ],
)
def test_the_edge_of_stability_in_words(sharpness, lines):
    assert [line for line in said(sharpness) if "edge" in line] == lines
    assert not [line for line in said(sharpness, plain=[False] * 3) if "edge" in line]


def test_findings():
    assert said(1.0) == (
        "at t = 1 the drift from the flow grows with the learning rate, up to 0.1, to the power "
        "1.500 (1.400 to 1.600)",
        "within a relative drift of 0.02 up to learning rate 0.05",
    )
    assert "learning rate 0.1 diverged after t = 7.5" in said(1.0, diverged=True)
    assert said(1.0, rtol=2e-3)[-1] == (
        "the smallest relative drift, 0.01, is below 10 x rtol: to tell it from the flow's own "
        "error, tighten rtol = 0.002"
    )


def test_the_summary_of_descents():
    drifts = record([[NAN] * 3, [0.5, 0.1, NAN], [0.4, NAN, NAN]])
    descents = tuple(descent([1.0], (2.0, 0.5), learning_rate=rate) for rate in RATES)
    compared = gf.Comparison(descents[0], descents, drifts, ())
    rows = summary(compared)
    assert [row["max_drift"] for row in rows] == [0.5, 0.1, None]
    assert [row["relative_drift"] for row in rows] == [0.4, 0.1, None]
    assert [row["loss"] for row in rows] == [0.5] * 3
