"""Fields: closed forms, the optimisers that they stand for, energy, gradients and counts."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from problems import flat, quadratic, quadratic_loss, relative_errors
from scipy.linalg import expm

import gradflow as gf
from gradflow.fields import FIELDS, HeavyBall, Modified, Nesterov

EIGENVALUES = np.array([0.01, 0.3, 1.0, 4.0, 20.0])
MOMENTUM = (HeavyBall, Nesterov)


def field_of(kind, eta, mu):
    return Modified(learning_rate=eta) if kind is Modified else kind(learning_rate=eta, momentum=mu)


# Closed forms. A field is linear on a quadratic: each eigendirection goes its own way.


def numbers(kind, eta, mu):
    """Mass, friction and the weight of dg/dt."""
    return eta * (1 + mu) / 2, 1 - mu, mu * eta if kind is Nesterov else 0.0


def along(kind, eta, mu, eigenvalue, times):
    """The share of the way to the minimum that is left along an eigenvector."""
    if kind is None:
        return np.exp(-eigenvalue * times)
    if kind is Modified:
        return np.exp(-(eigenvalue + eta * eigenvalue**2 / 2) * times)
    mass, friction, lead = numbers(kind, eta, mu)
    matrix = np.array([[0, 1], [-eigenvalue / mass, -(friction + lead * eigenvalue) / mass]])
    # Its momentum mass v + lead g is -eta g / 2 at the start.
    start = np.array([1.0, -(eta / 2 + lead) * eigenvalue / mass])
    return np.array([(expm(t * matrix) @ start)[0] for t in times])


def exact(kind, eta, mu, times, seed=0):
    rng = np.random.default_rng(seed)  # as `problems.quadratic` draws
    n = len(EIGENVALUES)
    rotation = np.linalg.qr(rng.normal(size=(n, n)))[0]
    start, minimum = rng.normal(size=n), rng.normal(size=n)
    left = np.stack([along(kind, eta, mu, e, times) for e in EIGENVALUES], axis=1)
    return minimum + (left * (rotation.T @ (start - minimum))) @ rotation.T


CASES = {
    "gradient": (None, 0.0, 0.0),
    "modified": (Modified, 0.05, 0.0),
    "modified, edge of stability": (Modified, 0.1, 0.0),
    **{
        f"{kind.__name__}, {name}": (kind, *parameters)
        for kind in MOMENTUM
        for name, parameters in {
            "oscillating": (0.01, 0.9),
            "long memory": (0.05, 0.99),
            "stiff": (1e-3, 0.5),  # the velocity settles a thousand times within a unit of time
            "no momentum": (0.01, 0.0),
        }.items()
    },
}


@pytest.mark.parametrize(("solver", "rtol"), [("auto", 1e-4), ("tsit5", 1e-4), ("auto", 1e-8)])
@pytest.mark.parametrize("case", CASES)
def test_closed_forms(case, solver, rtol):
    kind, eta, mu = CASES[case]
    problem, start, _ = quadratic(EIGENVALUES)
    t1 = 3.0 if "stiff" in case else 10.0
    settles = 1e-3 if kind is None or kind is Modified else eta * (1 + mu) / 2 / (1 - mu)
    times = [0.0, *np.geomspace(1e-4 * settles, t1, 50).tolist()]
    flow = gf.solve(
        problem,
        t1=t1,
        rtol=rtol,
        solver=solver,
        field="gradient" if kind is None else field_of(kind, eta, mu),
        observables={"flat": flat},
        save=gf.Explicit(times=times),
    )
    assert flow.result == "end_time"
    errors = relative_errors(flow["flat"][1:], exact(kind, eta, mu, flow.time[1:]), start)
    assert errors.max() <= 10 * rtol
    # What the energy has lost is what was dissipated.
    residual = flow["energy_residual"]
    assert np.isnan(residual[0])
    lost = flow["flow_energy" if kind else "loss"]
    lost = lost[0] - lost
    assert np.abs(residual * lost / lost[-1])[1:].max() <= 10 * rtol


# What the fields stand for.


@pytest.mark.parametrize("mu", [0.0, 0.5, 0.8])
@pytest.mark.parametrize("kind", MOMENTUM)
def test_one_step_of_the_recurrence_against_the_equation(kind, mu):
    """The slow root z of the recurrence, found apart, is exp(eta s) but for O(eta^3)."""
    etas, apart = (1 - mu) ** 2 * 2.0 ** -np.arange(6, 11), []
    for eta in etas:
        mass, friction, lead = numbers(kind, eta, mu)
        z = np.roots([1, -(1 + mu - eta - lead), mu - lead]).real.max()
        s = np.roots([mass, friction + lead, 1.0]).real.max()
        apart.append(abs(np.log(z) - eta * s))
    assert np.polyfit(np.log(etas), np.log(apart), 1)[0] == pytest.approx(3, abs=0.2)


@pytest.mark.parametrize("mu", [0.5, 0.9])
@pytest.mark.parametrize("kind", MOMENTUM)
def test_the_first_steps(kind, mu):
    """Under a constant gradient: exp(-2 k (1 - mu) / (1 + mu)) where the method has mu^k."""
    eta, k = 0.1, np.arange(1, 30)
    slope = gf.Problem(lambda p, d: 3.0 * p, jnp.asarray(1.0))
    run = {"save": gf.Explicit(times=(eta * k).tolist()), "observables": {"flat": flat}}
    flow = gf.solve(
        slope, t1=eta * 30, rtol=1e-11, solver="dopri8", field=field_of(kind, eta, mu), **run
    )

    def optimiser(rate):
        return optax.sgd(rate, momentum=mu, nesterov=kind is Nesterov)

    descent = gf.descend(slope, optimiser, learning_rate=eta, steps=30, **run)
    assert descent["step"].tolist() == k.tolist()
    lag = 3.0 * eta * (mu**2 if kind is Nesterov else mu) / (1 - mu) ** 2
    for found, gone in ((flow, np.exp(-2 * k * (1 - mu) / (1 + mu))), (descent, mu**k)):
        expected = 1.0 - 3.0 * eta * k / (1 - mu) + lag * (1 - gone)
        np.testing.assert_allclose(found["flat"][:, 0], expected, rtol=1e-9)


def network_loss(params, data):
    inputs, targets = data
    hidden = jnp.tanh(inputs @ params["in"])
    return jnp.mean((hidden @ params["out"] - targets) ** 2)


def network():
    rng = np.random.default_rng(1)
    params = {"in": rng.normal(size=(3, 4)), "out": rng.normal(size=4) / 2}
    return gf.Problem(network_loss, params, (rng.normal(size=(20, 3)), rng.normal(size=20)))


def joined(params):
    return np.asarray(flat(0.0, params, None))


def at(problem, t1, field="gradient"):
    flow = gf.solve(
        problem, t1=t1, rtol=1e-11, solver="dopri8", field=field, save=gf.Explicit(times=[t1])
    )
    return flow.final_params


def order(problem, etas, optimiser, t1, goal):
    """The order in eta of the distance between descent and `goal(eta)`."""
    apart = []
    for eta in etas:
        descent = gf.descend(
            problem, optimiser, learning_rate=eta, t1=t1, save=gf.Explicit(times=[t1])
        )
        assert descent.final_time == pytest.approx(t1, rel=1e-12)
        apart.append(np.linalg.norm(joined(descent.final_params) - joined(goal(eta))))
    return np.polyfit(np.log(etas), np.log(apart), 1)[0]


def test_plain_descent_is_of_first_order_to_the_flow_and_of_second_to_the_modified_one():
    problem, t1, etas = network(), 4.0, [0.04, 0.02, 0.01, 0.005]
    flow = at(problem, t1)
    assert order(problem, etas, optax.sgd, t1, lambda eta: flow) == pytest.approx(1, abs=0.05)
    found = order(
        problem, etas, optax.sgd, t1, lambda eta: at(problem, t1, Modified(learning_rate=eta))
    )
    assert found == pytest.approx(2, abs=0.1)


@pytest.mark.parametrize("mu", [0.5, 0.9])
@pytest.mark.parametrize("kind", MOMENTUM)
def test_momentum_is_of_second_order_to_its_field_and_of_first_to_the_flow(kind, mu):
    problem, t1 = network(), 8.0 * (1 - mu)
    # The expansion is in eta / (1 - mu)^2: with more memory the order settles later.
    etas = [t1 / n for n in np.array([1, 2, 4, 8]) * (400 if mu < 0.9 else 3200)]

    def optimiser(rate):
        return optax.sgd(rate, momentum=mu, nesterov=kind is Nesterov)

    found = order(
        problem, etas, optimiser, t1, lambda eta: at(problem, t1, field_of(kind, eta, mu))
    )
    assert found == pytest.approx(2, abs=0.1)
    flow = at(problem, t1 / (1 - mu))
    assert order(problem, etas, optimiser, t1, lambda eta: flow) == pytest.approx(1, abs=0.1)


# What is recorded, and what it costs.

EVERY = {kind.__name__: field_of(kind, 0.05, 0.8) for kind in FIELDS} | {"gradient": "gradient"}


@pytest.mark.parametrize("field", EVERY)
def test_the_gradient_norm_and_the_energy(field):
    problem, rtol = network(), 1e-6

    def square(t, params, data):
        gradient = jax.grad(network_loss)(params, data)
        return sum(jnp.vdot(g, g) for g in jax.tree.leaves(gradient))

    flow = gf.solve(problem, t1=5.0, rtol=rtol, field=EVERY[field], observables={"square": square})
    # Read off the steps' dense output, whose slope is known to about the tolerance.
    np.testing.assert_allclose(flow["grad_norm"] ** 2, flow["square"], rtol=200 * rtol)
    assert np.abs(flow["energy_residual"][1:]).max() <= 10 * rtol
    if field == "gradient":
        assert "flow_energy" not in flow
        return
    # The energy falls all along, and is no more than the loss where it starts from rest.
    assert (np.diff(flow["flow_energy"]) < 0).all()
    assert (flow["flow_energy"] >= flow["loss"]).all()


@pytest.fixture
def counted():
    """A quadratic whose gradients count themselves; a Hessian-vector product counts as two."""
    seen = [0]

    def add(amount):
        def see(*_):
            seen[0] += amount

        return see

    @jax.custom_jvp
    def tick(x):
        jax.debug.callback(add(1))
        return x

    @tick.defjvp
    def _(primals, tangents):
        jax.debug.callback(add(1))
        # Depends on the tangent, so that it is seen once for each product of a linearisation.
        jax.debug.callback(add(2), tangents[0][0])
        return primals[0], tangents[0]

    @jax.custom_vjp
    def half_square(x, matrix):
        return 0.5 * x @ matrix @ x

    def forward(x, matrix):
        return half_square(x, matrix), (x, matrix)

    def backward(kept, pulled):
        x, matrix = kept
        return tick(pulled * (matrix @ x)), jnp.zeros_like(matrix)

    half_square.defvjp(forward, backward)
    matrix = jnp.diag(jnp.asarray([1.0, 5.0, 60.0]))
    problem = gf.Problem(half_square, jnp.asarray([1.0, -2.0, 0.5]), matrix)

    def read():
        jax.effects_barrier()
        return seen[0]

    return problem, read


@pytest.mark.parametrize(
    ("solver", "stop"), [("auto", gf.Stop(gradient_norm=0.1)), ("tsit5", gf.Stop())]
)
@pytest.mark.parametrize("field", EVERY)
def test_evaluations_are_counted(counted, field, solver, stop):
    problem, read = counted
    flow = gf.solve(
        problem, t1=3.0, solver=solver, field=EVERY[field], stop=stop, save=gf.Linear(count=7)
    )
    stats = flow.stats
    assert stats["gradient_evaluations"] + stats.get("observable_evaluations", 0) == read()


@pytest.fixture
def compilations():
    """The names of what XLA compiles from here on."""
    names = []
    jax.monitoring.register_event_duration_secs_listener(
        lambda event, _, **kw: (
            names.append(event) if event.endswith("backend_compile_duration") else None
        )
    )
    return names


@pytest.mark.parametrize("kind", FIELDS)
def test_another_rate_compiles_nothing(compilations, kind):
    problem, *_ = quadratic([0.5, 1.0, 3.0])

    def run(eta, mu):
        gf.solve(problem, t1=1.0, solver="tsit5", field=field_of(kind, eta, mu))

    run(0.05, 0.9)
    del compilations[:]
    run(0.01, 0.5)
    assert compilations == []


def test_float32_stays():
    params = {"a": jnp.ones(2, jnp.float32), "b": jnp.zeros(1, jnp.float32)}
    data = (jnp.eye(3, dtype=jnp.float32), jnp.full(3, 2.0, jnp.float32))
    for field in (Modified(learning_rate=0.1), HeavyBall(learning_rate=0.1)):
        flow = gf.solve(gf.Problem(quadratic_loss, params, data), t1=1.0, field=field)
        every = [*jax.tree.leaves(flow.final_params), *flow.values()]
        assert {array.dtype for array in every} == {np.dtype(np.float32)}


def test_a_model_with_kept_leaves():
    """Fields see the trained arrays alone."""
    model = eqx.nn.MLP(2, "scalar", 3, 1, activation=jnp.tanh, key=jax.random.key(0))
    inputs = jnp.asarray(np.random.default_rng(0).normal(size=(5, 2)))
    problem = gf.Problem(lambda m, x: jnp.mean(jax.vmap(m)(x) ** 2), model, inputs)
    for field in (EVERY["Modified"], EVERY["HeavyBall"]):
        flow = gf.solve(problem, t1=1.0, solver="tsit5", field=field)
        assert flow.final_params.activation is model.activation
        assert flow["loss"][-1] < flow["loss"][0]


# Mistakes.


def test_mistakes_are_named():
    vector = gf.Problem(vector_field=lambda t, p, d: -p, params=jnp.ones(2))
    for field in EVERY.values():
        if field != "gradient":
            with pytest.raises(TypeError, match=f"field {field.kind} needs a loss.*vector field"):
                gf.solve(vector, t1=1.0, field=field)
    problem, *_ = quadratic([1.0, 2.0, 3.0])
    for field in (HeavyBall(learning_rate=0.1), Nesterov(learning_rate=0.1)):
        with pytest.raises(ValueError, match=r"conjugate gradients.*take 'kvaerno3'") as caught:
            gf.solve(problem, t1=1.0, solver="kvaerno3-cg", field=field)
        assert "\n" not in str(caught.value)
    # Of a field that is a gradient the Jacobian is symmetric.
    flow = gf.solve(problem, t1=1.0, solver="kvaerno3-cg", field=Modified(learning_rate=0.1))
    assert flow.result == "end_time"


@pytest.mark.parametrize("kind", FIELDS)
@pytest.mark.parametrize("rate", [0.0, -0.1, float("nan"), float("inf"), "0.1"])
def test_rates_out_of_range(kind, rate):
    with pytest.raises(ValueError, match="learning_rate"):
        kind(learning_rate=rate)


@pytest.mark.parametrize("kind", MOMENTUM)
@pytest.mark.parametrize("mu", [1.0, 1.5, -0.1, float("nan")])
def test_momenta_out_of_range(kind, mu):
    with pytest.raises(ValueError, match="momentum"):
        kind(learning_rate=0.1, momentum=mu)
