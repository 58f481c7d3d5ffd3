"""Pure functions of trajectories, on series made by hand."""

import numpy as np
import pytest

from gradflow.analysis import energy_residual, positive_since

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
