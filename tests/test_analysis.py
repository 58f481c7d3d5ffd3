"""Pure functions of trajectories, on series made by hand."""

import numpy as np
import pytest
from scipy.stats import binomtest, linregress, t

from gradflow.analysis import (
    band,
    crossings,
    energy_residual,
    fitted_order,
    largest_rate,
    positive_since,
    proportion_interval,
)

NEVER = np.empty((0, 2))
UP = np.array([[2.0, 1]])
DOWN = np.array([[2.0, -1]])
UP_DOWN_UP = np.array([[1.0, 1], [2.0, -1], [5.0, 1]])
DOWN_UP_DOWN = np.array([[1.0, -1], [2.0, 1], [5.0, -1]])


@pytest.mark.parametrize(
    ("crossings", "value_at_end", "until", "since"),
    [
        (NEVER, 0.3, np.inf, 0.0),
        (NEVER, -0.3, np.inf, None),
        (NEVER, 0.0, np.inf, None),
        (UP, 0.3, np.inf, 2.0),
        (DOWN, -0.3, np.inf, None),
        (UP_DOWN_UP, 0.3, np.inf, 5.0),
        (DOWN_UP_DOWN, -0.3, np.inf, None),
        # What happens after `until` does not matter, whatever the sign at the end.
        (UP, 0.3, 1.0, None),
        (DOWN, -0.3, 1.0, 0.0),
        (UP_DOWN_UP, 0.3, 0.5, None),
        (UP_DOWN_UP, 0.3, 1.5, 1.0),
        (UP_DOWN_UP, 0.3, 3.0, None),
        (UP_DOWN_UP, 0.3, 7.0, 5.0),
        (DOWN_UP_DOWN, -0.3, 0.5, 0.0),
        (DOWN_UP_DOWN, -0.3, 1.5, None),
        (DOWN_UP_DOWN, -0.3, 3.0, 2.0),
        # At `until` itself the crossing has happened.
        (UP, 0.3, 2.0, 2.0),
        (DOWN, -0.3, 2.0, None),
        (NEVER, 0.3, 0.0, 0.0),
    ],
)
def test_positive_since(crossings, value_at_end, until, since):
    assert positive_since(crossings, value_at_end, until) == since


def test_energy_residual_of_an_exact_flow_is_zero():
    times = np.array([0.0, 0.1, 1.0, 5.0])
    loss = 0.5 * np.exp(-2 * times)  # of theta^2 / 2 from theta = 1, |grad|^2 = exp(-2t)
    residual = energy_residual(loss, 0.5 - loss)
    assert np.isnan(residual[0])
    assert residual[1:] == pytest.approx(0, abs=1e-15)


def test_energy_residual_is_the_share_of_the_loss_unaccounted_for():
    loss, dissipated = np.array([3.0, 2.0, 1.0, 4.0, 3.0]), np.array([0.0, 0.9, 2.2, 2.2, 2.2])
    found = energy_residual(loss, dissipated)
    # Also where the loss has risen above its start, as under descent by large steps.
    assert found == pytest.approx([np.nan, 0.1, -0.1, 3.2, np.nan], nan_ok=True)


def test_energy_residual_of_a_run_without_records():
    assert energy_residual(np.empty(0), np.empty(0)).shape == (0,)


# Orders

RATES = np.array([0.005, 0.000625, 0.0025, 0.00125])


@pytest.mark.parametrize("order", [1.0, 2.0, -0.5])
def test_the_order_of_an_exact_power_law(order):
    found = fitted_order(RATES, 3.0 * RATES**order)
    assert found.value == pytest.approx(order, rel=1e-13)
    assert found.prefactor == pytest.approx(3.0, rel=1e-12)
    assert found.low <= found.value <= found.high
    assert found.high - found.low < 1e-12


def test_the_order_and_its_interval_are_those_of_linear_regression():
    drift = RATES * np.array([2.0, 1.7, 1.5, 2.1])
    fit = linregress(np.log(RATES), np.log(drift))
    half = t.ppf(0.975, 2) * fit.stderr
    expected = (fit.slope, fit.slope - half, fit.slope + half, np.exp(fit.intercept))
    assert fitted_order(RATES, drift) == pytest.approx(expected, rel=1e-12)


def test_the_interval_holds_the_order_as_often_as_it_says():
    rng = np.random.default_rng(0)
    held = 0
    for _ in range(2000):
        found = fitted_order(RATES, RATES**2 * np.exp(0.1 * rng.standard_normal(4)))
        held += found.low <= 2.0 <= found.high
    # Four standard deviations of a binomial share of 0.95.
    assert held / 2000 == pytest.approx(0.95, abs=4 * np.sqrt(0.95 * 0.05 / 2000))


def test_the_order_leaves_out_what_has_no_logarithm():
    rates = np.array([0.1, *RATES, 0.2, 0.4, 0.8])
    drift = np.array([0.0, *(2.0 * RATES), np.nan, np.inf, -1.0])
    assert fitted_order(rates, drift) == fitted_order(RATES, 2.0 * RATES)


def test_the_order_from_few_rates():
    two = fitted_order(np.array([0.1, 0.2]), np.array([1.0, 4.0]))
    assert (two.value, two.prefactor) == pytest.approx((2.0, 100.0))
    assert np.isnan([two.low, two.high]).all()
    for drift in ([np.nan, 4.0], [np.nan, np.nan]):
        assert np.isnan(fitted_order(np.array([0.1, 0.2]), np.array(drift))).all()
    # A rate run twice is one rate.
    assert np.isnan(fitted_order(np.array([0.1, 0.1]), np.array([1.0, 2.0]))).all()


@pytest.mark.parametrize(
    ("rates", "drift", "limit", "largest"),
    [
        ([1.0, 2.0, 4.0], [1.0, 4.0, 16.0], 9.0, 3.0),
        ([4.0, 1.0, 2.0], [16.0, 1.0, 4.0], 9.0, 3.0),
        ([1.0, 2.0, 4.0], [1.0, 4.0, 16.0], 4.0, 2.0),
        # Never beyond the largest that was run, and not towards one that diverged.
        ([1.0, 2.0, 4.0], [1.0, 4.0, 16.0], 99.0, 4.0),
        ([1.0, 2.0, 4.0], [1.0, 4.0, np.nan], 9.0, 2.0),
        ([1.0, 2.0, 4.0], [1.0, 4.0, np.inf], 9.0, 2.0),
        ([1.0, 2.0, 4.0], [1.0, np.nan, 16.0], 9.0, 1.0),
        ([1.0, 2.0], [0.0, 4.0], 2.0, 1.0),
        ([1.0, 2.0], [1.0, 4.0], 0.5, None),
        ([1.0, 2.0], [np.nan, np.nan], 9.0, None),
        ([], [], 9.0, None),
    ],
)
def test_largest_rate(rates, drift, limit, largest):
    found = largest_rate(np.array(rates), np.array(drift), limit)
    assert found == (largest if largest is None else pytest.approx(largest, rel=1e-14))


# Crossings


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([0.0, 4.0, 0.0], [(0.25, 1), (1.75, -1)]),
        ([2.0, 2.0, 2.0], []),
        ([0.0, 0.5, 0.9], []),
        # Over a sample on the level, over several, and back from one.
        ([0.0, 1.0, 2.0], [(1.0, 1)]),
        ([2.0, 1.0, 1.0, 0.0], [(1.0, -1)]),
        ([0.0, 1.0, 0.0], []),
        ([1.0, 2.0, 0.0], [(1.5, -1)]),
        # Skipped samples do not cut the series.
        ([0.0, np.nan, 4.0], [(0.5, 1)]),
        ([np.nan, 0.0, np.inf, 2.0, np.nan], [(2.0, 1)]),
        ([np.nan, np.nan], []),
        ([], []),
    ],
)
def test_crossings_of_a_level(values, expected):
    found = crossings(np.arange(len(values)), np.array(values), 1.0)
    assert found.shape == (len(expected), 2)
    np.testing.assert_allclose(found, np.reshape(expected, (-1, 2)))


def test_crossings_of_a_sine():
    times = np.linspace(0.0, 10.0, 2001)
    found = crossings(times, np.sin(times), 0.5)
    exact = np.array([np.pi / 6, 5 * np.pi / 6])
    exact = np.concatenate([exact, exact + 2 * np.pi])
    np.testing.assert_allclose(found[:, 0], exact[:4], atol=1e-5)
    np.testing.assert_array_equal(found[:, 1], [1, -1, 1, -1])


@pytest.mark.parametrize(("held", "of"), [(0, 1), (1, 1), (0, 40), (17, 40), (40, 40), (999, 1000)])
def test_the_interval_of_a_proportion_is_the_exact_one(held, of):
    expected = binomtest(held, of).proportion_ci(0.95, method="exact")
    assert proportion_interval(held, of) == pytest.approx((expected.low, expected.high), abs=1e-12)


def test_nothing_looked_at_says_nothing_of_a_proportion():
    assert proportion_interval(0, 0) == (0.0, 1.0)


def test_a_band_leaves_out_what_is_no_number():
    values = np.arange(12.0).reshape(2, 6)
    values[1, :2] = np.nan
    low, median, high = band(values)
    assert median.tolist() == [2.5, 9.5]
    assert low == pytest.approx([0.5, 8.3])
    assert high == pytest.approx([4.5, 10.7])
    assert np.isnan(band(np.full((1, 3), np.nan)).median).all()
    assert band(np.array([1.0, 3.0])).median == 2.0
