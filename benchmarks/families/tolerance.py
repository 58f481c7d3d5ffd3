"""What a tolerance buys: the error over the whole run, and what it costs.

``python -m benchmarks.tolerance``: errors are |found - exact| / |exact - start| at 60 times spaced
evenly in log t, the worst of them, against a solve with Dopri8 at 1e-11. Beside gradflow plain
diffrax, as its documentation has it: ``PIDController(rtol, atol)`` with its default norm.
"""

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

import gradflow as gf

PROBLEMS = {
    "transformer, uniform": (gf.tasks.Cooccurrence(), 300.0),
    "transformer, normal": (gf.tasks.Cooccurrence(initialisation="kaiming-normal"), 300.0),
    "digits, logistic": (gf.tasks.Digits(), 100.0),
    "digits, mlp": (gf.tasks.Digits(model="mlp"), 20.0),
}
RTOLS = (1e-3, 2e-4, 1e-4, 1e-5, 1e-6)


def flat(t, params, data):
    leaves = jax.tree.leaves(eqx.filter(params, eqx.is_inexact_array))
    return jnp.concatenate([leaf.ravel() for leaf in leaves])


def worst(found, exact):
    return np.max(
        np.linalg.norm(found[1:] - exact[1:], axis=1) / np.linalg.norm(exact[1:] - exact[0], axis=1)
    )


@eqx.filter_jit
def plain_diffrax(problem, t1, times, rtol):
    gradient = jax.grad(problem.loss)
    return diffrax.diffeqsolve(
        diffrax.ODETerm(lambda t, y, d: jax.tree.map(jnp.negative, gradient(y, d))),
        diffrax.Tsit5(),
        0.0,
        t1,
        None,
        problem.params,
        args=problem.data,
        saveat=diffrax.SaveAt(ts=times, fn=lambda t, y, d: flat(t, y, d)),
        stepsize_controller=diffrax.PIDController(rtol=rtol, atol=1e-3 * rtol),
        max_steps=100_000,
    )


def main():
    jax.config.update("jax_enable_x64", True)
    print(
        f"{'problem':<22}{'method':<16}{'rtol':>8}{'error':>10}{'error/rtol':>12}{'gradients':>11}"
    )
    for name, (task, t1) in PROBLEMS.items():
        problem = task.build(jax.random.key(0))
        times = np.array([0.0, *np.geomspace(1e-6 * t1, t1, 60)])
        fields = {
            "t1": t1,
            "save": gf.Explicit(times=times.tolist()),
            "observables": {"flat": flat},
        }
        exact = gf.solve(problem, rtol=1e-11, solver="dopri8", **fields)["flat"]

        def row(method, rtol, found, evaluations, name=name, exact=exact):
            error = worst(found, exact)
            print(
                f"{name:<22}{method:<16}{rtol:>8.0e}{error:>10.1e}{error / rtol:>12.2g}"
                f"{evaluations:>11}",
                flush=True,
            )

        for rtol in RTOLS:
            for solver in ("bosh3", "tsit5"):
                flow = gf.solve(problem, rtol=rtol, solver=solver, **fields)
                row(solver, rtol, flow["flat"], flow.stats["gradient_evaluations"])
        for rtol in (1e-3, 1e-4, 1e-6):
            solution = plain_diffrax(problem, jnp.asarray(t1), jnp.asarray(times), rtol)
            row("diffrax Tsit5", rtol, solution.ys, 1 + 6 * int(solution.stats["num_steps"]))


if __name__ == "__main__":
    main()
