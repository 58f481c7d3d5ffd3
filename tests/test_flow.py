"""`solve`: stop rules, save times, failures, compilation and memory."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from problems import flat, logistic_scalar, quadratic

import gradflow as gf
from gradflow.flow import FlowSpec
from gradflow.solvers import stepping


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


@pytest.mark.parametrize(
    ("stop", "result"),
    [
        (gf.Stop(gradient_norm=1e-3), "gradient_norm"),
        (gf.Stop(relative_gradient_norm=1e-2), "gradient_norm"),
        (gf.Stop(loss=0.3), "loss"),
        (gf.Stop(loss=0.3, gradient_norm=1e-9), "loss"),
        (gf.Stop(), "end_time"),
    ],
)
def test_stop_rules(stop, result):
    problem, *_ = logistic_scalar()
    t1 = 2e3
    save = gf.Linear(count=50)
    flow = gf.solve(problem, t1=t1, stop=stop, save=save)
    assert flow.result == result
    # The series ends where the run does, and what ended it holds there and not before.
    assert flow.time[-1] == flow.final_time
    if result == "end_time":
        assert flow.time.tolist() == save.build(t1).tolist()
        return
    assert flow.final_time < t1
    assert flow.time[:-1].tolist() == save.build(t1)[: len(flow.time) - 1].tolist()
    if result == "loss":
        assert flow["loss"][-1] <= stop.loss
        assert flow["loss"][flow.time < 0.7 * flow.final_time].min() > stop.loss
    else:
        limit = stop.gradient_norm or stop.relative_gradient_norm * flow["grad_norm"][0]
        assert flow["grad_norm"][-1] <= limit
        # A rule is looked at after every step: only times in the last one may hold it too.
        assert flow["grad_norm"][flow.time < 0.7 * flow.final_time].min() > limit


def test_wall_time_and_cancelling():
    problem, *_ = quadratic([0.1, 1.0, 400.0])
    slow = gf.solve(problem, t1=1e9, max_steps=10**9, stop=gf.Stop(wall_seconds=0.3))
    assert slow.result == "wall_time"
    assert 0 < slow.final_time < 1e9
    assert slow.stats["wall_seconds"] >= 0.3
    reports = []
    cancelled = gf.solve(
        problem,
        t1=1e9,
        max_steps=10**9,
        progress=reports.append,
        cancelled=lambda: len(reports) >= 3,
    )
    assert cancelled.result == "cancelled"
    assert len(reports) == 3
    assert [r.time for r in reports] == sorted(r.time for r in reports)
    assert reports[-1].time == cancelled.final_time
    # One more for the gradient norm recorded where it ended.
    assert reports[-1].gradient_evaluations + 1 == cancelled.stats["gradient_evaluations"]
    assert reports[-1].loss is not None
    assert cancelled.time[-1] == cancelled.final_time
    assert 0 < reports[-1].fraction < 1
    assert np.isfinite(cancelled["loss"]).all()


def test_observables_with_save_times_of_their_own():
    problem, _, exact = quadratic([0.5, 1.0, 3.0])
    flow = gf.solve(
        problem,
        t1=2.0,
        rtol=1e-8,
        observables={"flat": flat, "size": lambda t, params, data: params["a"].size * t},
        save=gf.Linear(count=11),
        save_each={"flat": gf.Explicit(times=[0.25, 1.75])},
    )
    assert flow.time.tolist() == np.linspace(0, 2, 11).tolist()
    assert flow.times("flat").tolist() == [0.25, 1.75]
    assert flow.variables["flat"].dims == ("time_flat", "flat_0")
    np.testing.assert_allclose(flow["flat"], exact(np.array([0.25, 1.75])), rtol=1e-7)
    np.testing.assert_allclose(flow["size"], 2 * flow.time)
    dataset = flow.to_xarray()
    assert dict(dataset["flat"].sizes) == {"time_flat": 2, "flat_0": 3}
    assert dict(dataset["loss"].sizes) == {"time": 11}


def test_a_loss_that_is_not_a_number_beyond_a_point():
    """It stops short of the wall, says so, and keeps everything until then."""

    def loss(params, data):
        return jnp.where(params < 0.5, jnp.nan, params)

    flow = gf.solve(gf.Problem(loss, jnp.asarray(2.0)), t1=10.0, save=gf.Linear(count=101))
    assert flow.result == "step_underflow"
    assert flow.result in gf.FAILURES
    assert "not finite" in gf.RESULTS[flow.result]
    assert flow.final_time == pytest.approx(1.5, abs=1e-6)
    assert flow.time[-1] == flow.final_time
    assert len(flow.time) >= 15
    np.testing.assert_allclose(flow["loss"], 2.0 - flow.time, rtol=1e-6)


def test_a_start_that_is_not_a_number():
    flow = gf.solve(gf.Problem(lambda p, d: jnp.log(p), jnp.asarray(-1.0)), t1=1.0)
    assert flow.result == "not_finite"
    assert flow.final_time == 0
    assert len(flow.time) == 0


def test_a_flow_that_blows_up():
    """theta' = theta^2 reaches infinity at t = 1."""
    flow = gf.solve(gf.Problem(lambda p, d: -(p**3) / 3, jnp.asarray(1.0)), t1=2.0)
    assert flow.result == "step_underflow"
    assert flow.final_time == pytest.approx(1.0, rel=1e-3)
    assert np.isfinite(flow["loss"]).all()


def test_the_step_limit():
    problem, *_ = quadratic([1.0, 10.0])
    flow = gf.solve(problem, t1=5.0, max_steps=7)
    assert flow.result == "step_limit"
    assert flow.stats["accepted"] + flow.stats["rejected"] == 7
    assert flow.time[-1] == flow.final_time < 5


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        ({"t1": 0.0}, "t1 = 0.0"),
        ({"t1": float("nan")}, "t1 = nan"),
        ({"t1": -3.0}, "t1"),
        ({"rtol": 2.0}, "rtol = 2.0"),
        (
            {"rtol": 1e-15},
            "rtol = 1e-15 is below 2.2e-14, the least that float64 parameters can hold",
        ),
        ({"solver": "tsit"}, "solver = 'tsit'"),
        ({"field": "newton"}, "field = 'newton'"),
        ({"max_steps": 0}, "max_steps = 0"),
        ({"save": gf.Explicit(times=[0.0, 9.0])}, "save time 9 lies after t1 = 1"),
        ({"save": gf.Logarithmic(start=2.0)}, "start = 2 must lie before t1 = 1"),
        ({"save_each": {"los": gf.Linear()}}, "no observable 'los'"),
        ({"observables": {"loss": flat}}, "two observables are called 'loss'"),
    ],
)
def test_mistakes_are_named(arguments, error):
    problem, *_ = logistic_scalar()
    with pytest.raises(ValueError, match=error) as caught:
        gf.solve(problem, **{"t1": 1.0} | arguments)
    assert "\n" not in str(caught.value)


def test_a_solver_without_an_error_estimate():
    import diffrax

    problem, *_ = logistic_scalar()
    with pytest.raises(ValueError, match=r"euler has no error estimate.*HalfSolver"):
        gf.solve(problem, t1=1.0, solver=diffrax.Euler())
    flow = gf.solve(problem, t1=1.0, solver=diffrax.HalfSolver(diffrax.Euler()), rtol=1e-2)
    assert flow.result == "end_time"


def test_float32_and_the_tolerance_it_cannot_hold():
    problem = gf.Problem(lambda p, d: 0.5 * p**2, jnp.asarray(1.0, jnp.float32))
    with pytest.raises(ValueError, match=r"1e-08 is below 1.2e-05.*float32.*jax_enable_x64"):
        gf.solve(problem, t1=1.0, rtol=1e-8)
    flow = gf.solve(problem, t1=1.0, rtol=1e-4)
    assert flow.final_params.dtype == jnp.float32
    assert flow["loss"].dtype == np.float32
    np.testing.assert_allclose(flow.final_params, np.exp(-1.0), rtol=1e-4)


def test_changed_values_compile_nothing(compilations):
    """Tolerances, end times, save times, limits and data may change; so may the problem object."""

    def run(scale, **changes):
        problem, *_ = quadratic([0.3, 1.0 * scale, 5.0], seed=int(scale))
        fields = {"t1": 3.0, "rtol": 1e-4, "solver": "tsit5", "max_steps": 1000} | changes
        fields |= {"stop": gf.Stop(loss=fields.pop("low", -1e3))}
        return gf.solve(problem, **fields)

    run(1.0)
    del compilations[:]
    run(2.0)
    run(1.0, t1=7.0, rtol=1e-6, max_steps=55, low=-5.0, save=gf.Linear(count=200))
    assert compilations == []


def test_memory():
    """200 save times of a two-million-parameter model: 12 copies of its parameters, RKC2 8."""
    from gradflow.flow.plan import plan
    from gradflow.observables import recorded

    width = 1000

    def loss(params, data):
        return jnp.mean((jnp.tanh(data @ params["in"]) @ params["out"]) ** 2)

    params = {name: jnp.full((width, width), 1e-3) for name in ("in", "out")}
    problem = gf.Problem(loss, params, jnp.ones((2, width)))
    copy = problem.size * 8
    nine, zero = jnp.asarray(9, jnp.int32), jnp.asarray(0.0)
    limits = stepping.Limits(jnp.asarray(1.0), nine, zero, zero, nine, jnp.asarray(jnp.inf))
    for solver in ("tsit5", "auto"):
        spec = FlowSpec(t1=1.0, solver=solver)
        planned = plan(problem, spec, solver, recorded(problem))
        carry = None
        for name, stepper in planned.steppers.items():
            if carry is None:
                state = planned.field.init(problem.params, problem.data)
                carry = stepping.start(
                    stepper, state, planned.save_times, jnp.asarray(1.0), problem.data
                )
            else:
                carry = stepping.hand_over(stepper, carry, problem.data)
            kept = ((stepper, planned.save_times, limits, problem.data), nine)
            used = stepping.advance.lower(kept, carry).compile().compiled.memory_analysis()
            # The problem's own parameters are an argument twice, to measure from and to record
            # from; they are the user's, and one array.
            held = (
                used.argument_size_in_bytes
                - 2 * copy
                + used.output_size_in_bytes
                - used.alias_size_in_bytes
                + used.temp_size_in_bytes
            )
            assert problem.size == 2_000_000
            most = 8 if name == "rkc2" else 12
            assert held <= most * copy, f"{solver}, {name}: {held / copy:.1f} copies"
    assert list(planned.steppers) == ["bosh3", "rkc2"]


def test_the_spec_and_the_function_say_the_same():
    import inspect

    parameters = inspect.signature(gf.solve).parameters
    for name, field in FlowSpec.model_fields.items():
        default = parameters[name].default
        if name == "save_each":
            assert default is None
        elif field.is_required():
            assert default is inspect.Parameter.empty
        else:
            assert default == field.default
    assert set(parameters) - set(FlowSpec.model_fields) == {
        "problem", "observables", "checkpoints", "progress", "cancelled",
    }  # fmt: skip
