"""What fixed runs cost, in counts: gradients, steps and compilations may fall, and may not rise.

The bounds are what was measured, at this suite's flags of XLA, on quadratics of one shape and on
the co-occurrence transformer. A change that lowers one writes it down. What else is counted stands
beside what it belongs to: memory in copies of the parameters in test_flow.py, compilations of a
descent at other learning rates in test_descent.py.
"""

import jax
import pytest
from problems import quadratic

import gradflow as gf
from benchmarks.problems import PROBLEMS
from gradflow.solvers import SOLVERS

# Gradient evaluations, accepted and rejected steps: on quadratic-clustered (sharpness 999, to
# t = 20, rtol 1e-3) and on quadratic-mild (sharpness 10, to t = 10, rtol 2e-3).
QUADRATICS = {
    "heun": ((20214, 10105, 1), (266, 131, 1)),
    "bosh3": ((23906, 7968, 0), (158, 50, 2)),
    "tsit5": ((34238, 5706, 0), (212, 34, 1)),
    "dopri5": ((36314, 6052, 0), (218, 36, 0)),
    "dopri8": ((50351, 3873, 0), (301, 23, 0)),
    "rkc2": ((1473, 161, 0), (188, 78, 0)),
    "rkl2": ((1577, 157, 0), (186, 77, 0)),
    "kvaerno3-cg": ((3250, 81, 0), (603, 37, 0)),
    "kvaerno4-cg": ((3776, 73, 0), (679, 33, 0)),
    "kvaerno5-cg": ((3210, 51, 0), (534, 26, 0)),
    "auto": ((1433, 132, 0), (168, 54, 2)),
}
# Those with dense Jacobians, on three eigenvalues.
DENSE = {
    "kvaerno3": (1012, 42, 0),
    "kvaerno4": (1564, 55, 5),
    "kvaerno5": (1744, 49, 9),
}
# Of auto, to t = 300 at rtol 1e-3.
TRANSFORMER = (230, 76, 0)


def costs(flow):
    assert flow.result == "end_time"
    return tuple(flow.stats[name] for name in ("gradient_evaluations", "accepted", "rejected"))


def within(found, bounds):
    """A hundredth is left for the rounding of other machines, where steps go by the thousand."""
    return all(count <= 1.01 * bound for count, bound in zip(found, bounds, strict=True))


def solvers(flow):
    return [leg["solver"] for leg in flow.stats["legs"]]


@pytest.fixture
def compilations():
    """The count of programs that are compiled, or read compiled, from here on: an entry each."""
    count = []

    def listen(event, seconds, **_):
        if event.endswith("backend_compile_duration"):
            count.append(event)

    jax.monitoring.register_event_duration_secs_listener(listen)
    yield count
    jax.monitoring.unregister_event_duration_listener(listen)


def test_every_solver_has_bounds():
    assert {*QUADRATICS, *DENSE} == {*SOLVERS, "auto"}


@pytest.mark.parametrize("solver", QUADRATICS)
def test_two_quadratics_in_one_compilation(solver, compilations):
    """The second has other data, end, tolerance, threshold to stop at, and times to save."""
    stiff, mild = (PROBLEMS[name].build(0) for name in ("quadratic-clustered", "quadratic-mild"))
    first = gf.solve(
        stiff, t1=20.0, rtol=1e-3, solver=solver, save=gf.Linear(count=5), stop=gf.Stop(loss=1e-9)
    )
    assert compilations
    del compilations[:]
    second = gf.solve(
        mild,
        t1=10.0,
        rtol=2e-3,
        solver=solver,
        save=gf.Explicit(times=[0.0, 0.1, 2.0, 7.0, 10.0]),
        stop=gf.Stop(loss=1e-8),
    )
    assert compilations == []
    bounds = QUADRATICS[solver]
    assert within(costs(first), bounds[0]), costs(first)
    assert within(costs(second), bounds[1]), costs(second)
    if solver == "auto":
        assert solvers(first) == ["bosh3", "rkc2"]


@pytest.mark.parametrize("solver", DENSE)
def test_dense_jacobians(solver):
    problem, *_ = quadratic([10.0, 1.0, 0.1])
    found = costs(gf.solve(problem, t1=10.0, rtol=1e-3, solver=solver, save=gf.Linear(count=5)))
    assert within(found, DENSE[solver]), found


def test_the_transformer_to_its_end():
    flow = gf.solve(PROBLEMS["transformer"].build(0), t1=300.0, rtol=1e-3, save=gf.Linear(count=2))
    assert solvers(flow) == ["bosh3"]
    assert within(costs(flow), TRANSFORMER), costs(flow)
