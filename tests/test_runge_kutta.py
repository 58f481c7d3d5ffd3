"""The unrolled Runge-Kutta methods are diffrax's own, to rounding, and cheaper to count."""

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gradflow.solvers import DistanceController, UnrolledRungeKutta

METHODS = (
    diffrax.Heun,
    diffrax.Midpoint,
    diffrax.Ralston,
    diffrax.Bosh3,
    diffrax.Tsit5,
    diffrax.Dopri5,
    diffrax.Dopri8,
)
# Those of which diffrax interpolates as we do; it is content with straight lines in the others.
SAME_DENSE_OUTPUT = (diffrax.Bosh3, diffrax.Tsit5, diffrax.Dopri5, diffrax.Dopri8)


def field(t, y, args):
    """Nonlinear, not autonomous, over two leaves."""
    a, b = y
    return (jnp.sin(t) * b.sum() - a**3, -b + a.sum() * jnp.cos(b))


TERM = diffrax.ODETerm(field)
Y0 = (jnp.asarray([0.3, -0.7]), jnp.asarray([[1.1], [0.2], [-0.4]]))


def step(solver, t0=0.2, t1=0.45):
    t0, t1 = jnp.asarray(t0), jnp.asarray(t1)
    state = solver.init(TERM, t0, t1, Y0, None)
    y1, error, dense, _, _ = solver.step(TERM, t0, t1, Y0, None, state, jnp.asarray(False))
    return y1, error, solver.interpolation_cls(t0=t0, t1=t1, **dense)


def assert_close(ours, theirs, tolerance=1e-14):
    for a, b in zip(jax.tree.leaves(ours), jax.tree.leaves(theirs), strict=True):
        np.testing.assert_allclose(a, b, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("method", METHODS)
def test_one_step_is_diffrax_own(method):
    ours, theirs = step(UnrolledRungeKutta(method())), step(method())
    assert_close(ours[:2], theirs[:2])
    for s in (0.2, 0.27, 0.33, 0.45):
        if method in SAME_DENSE_OUTPUT:
            assert_close(ours[2].evaluate(s), theirs[2].evaluate(s), 1e-13)
            assert_close(ours[2].derivative(s), theirs[2].derivative(s), 1e-12)
    # Both ends exactly, slopes included: the next step goes on smoothly.
    assert_close(ours[2].evaluate(0.2), Y0)
    assert_close(ours[2].evaluate(0.45), ours[0], 1e-13)
    assert_close(ours[2].derivative(0.2), field(0.2, Y0, None), 1e-13)
    assert_close(ours[2].derivative(0.45), field(0.45, ours[0], None), 1e-12)
    assert_close(
        ours[2].evaluate(0.3, 0.4),
        jax.tree.map(jnp.subtract, ours[2].evaluate(0.4), ours[2].evaluate(0.3)),
    )


@pytest.mark.parametrize(
    ("method", "order", "rate", "counts"),
    [
        (diffrax.Heun, 2, -2.0, (64, 96, 128, 192)),
        (diffrax.Bosh3, 3, -2.0, (64, 96, 128, 192)),
        (diffrax.Tsit5, 5, -2.0, (64, 96, 128, 192)),
        (diffrax.Dopri5, 5, -2.0, (64, 96, 128, 192)),
        # Rounding leaves this one little room: a slower field, and few steps.
        (diffrax.Dopri8, 8, -1.0, (14, 16, 20, 24)),
    ],
)
def test_order(method, order, rate, counts):
    """The global error on logistic decay at an uneven pace, by regression over step counts."""
    term = diffrax.ODETerm(lambda t, y, args: rate * y * (1 - y) * (1 + jnp.sin(t)))
    y0 = np.linspace(0.05, 0.95, 9)
    growth = np.exp(rate * (3.0 - np.cos(2.0)))
    exact = y0 * growth / (1 + y0 * (growth - 1))

    @eqx.filter_jit
    def final(n):
        return diffrax.diffeqsolve(
            term, UnrolledRungeKutta(method()), 0.0, 2.0, 2.0 / n, jnp.asarray(y0)
        ).ys[0]

    errors = [np.linalg.norm(final(jnp.asarray(float(n))) - exact) for n in counts]
    slope = -np.polyfit(np.log(counts), np.log(errors), 1)[0]
    assert slope == pytest.approx(order, abs=0.1)


@pytest.mark.parametrize("method", METHODS)
def test_in_plain_diffeqsolve(method):
    """With diffrax's own controller and save times, and with a jump in the field."""

    def solve(solver, controller):
        return diffrax.diffeqsolve(
            TERM,
            solver,
            0.0,
            1.5,
            0.01,
            Y0,
            saveat=diffrax.SaveAt(ts=jnp.linspace(0.0, 1.5, 7)),
            stepsize_controller=controller,
        )

    controller = diffrax.ClipStepSizeController(
        diffrax.PIDController(rtol=1e-6, atol=1e-8), jump_ts=jnp.asarray([0.7])
    )
    ours, theirs = (solve(s, controller) for s in (UnrolledRungeKutta(method()), method()))
    assert ours.stats["num_steps"] == theirs.stats["num_steps"]
    assert_close(ours.ys, theirs.ys, 1e-11 if method in SAME_DENSE_OUTPUT else 1e-3)


def test_distance_controller_in_plain_diffeqsolve():
    """No origin given: it measures from the first state."""
    solution = diffrax.diffeqsolve(
        diffrax.ODETerm(lambda t, y, args: -y),
        diffrax.Tsit5(),
        0.0,
        3.0,
        None,
        jnp.asarray([1.0, 2.0]),
        stepsize_controller=DistanceController(1e-6),
    )
    np.testing.assert_allclose(solution.ys[0], np.exp(-3.0) * np.array([1.0, 2.0]), rtol=1e-6)
    assert solution.stats["num_rejected_steps"] == 0


def test_float32_stays_float32():
    y0 = jax.tree.map(lambda x: x.astype(jnp.float32), Y0)
    solver, t0, t1 = UnrolledRungeKutta(diffrax.Tsit5()), jnp.float32(0.0), jnp.float32(0.1)
    state = solver.init(TERM, t0, t1, y0, None)
    y1, error, dense, state, _ = solver.step(TERM, t0, t1, y0, None, state, False)
    between = solver.interpolation_cls(t0=t0, t1=t1, **dense).evaluate(jnp.float32(0.05))
    for leaf in jax.tree.leaves((y1, error, state, between)):
        assert leaf.dtype == jnp.float32
