"""What runs on a mesh of eight devices come to, as JSON: a process of its own for test_mesh.

The number of devices has to be set before JAX starts.
"""

import json
import math
import re
from collections.abc import Iterator
from tempfile import TemporaryDirectory

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax

import gradflow as gf
from gradflow.flow.plan import observed
from gradflow.flow.run import FlowRun
from gradflow.flow.solve import checked
from gradflow.progress import Watch
from gradflow.solvers import stepping

SAVE = gf.Linear(count=5)
COLLECTIVE = re.compile(
    r" = (.*?) (all-gather|all-reduce|all-to-all|collective-permute|reduce-scatter)(?:-start)?\("
)


def distance(one, other) -> float:
    """The largest difference of any two numbers."""
    pairs = zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True)
    return max(float(np.max(np.abs(np.asarray(a) - np.asarray(b)))) for a, b in pairs)


def numbers(trajectory):
    """All that was recorded of a run, and where it ended."""
    final = eqx.filter(trajectory.final_params, eqx.is_inexact_array)
    recorded = {name: np.nan_to_num(v.values) for name, v in trajectory.variables.items()}
    return final, recorded


def collectives(text: str) -> Iterator[dict]:
    """What a compiled program sends from device to device: how, and the shapes that come of it."""
    for line in text.splitlines():
        if found := COLLECTIVE.search(line):
            shapes = re.findall(r"\w+\[([\d,]*)\]", found[1])
            every = [[int(n) for n in shape.split(",") if n] for shape in shapes]
            yield {"kind": found[2], "shapes": every}


def run_of(problem: gf.Problem, **options) -> tuple[gf.Trajectory, dict]:
    """A run, and of its last solver's compiled loop what it sends, and where its arrays lie."""
    before = stepping.advance._cached._cache_size()
    spec = checked(save=SAVE, **options)
    run = FlowRun(problem, spec, "auto", observed(problem, spec, ()))
    Watch().reach(run)
    lowered = stepping.advance.lower((run.kept, jnp.asarray(1, jnp.int32)), run.carry)
    compiled = lowered.compile().compiled
    shapes = [leaf.shape for leaf in jax.tree.leaves(problem.params)]
    return run.trajectory(), {
        "programs": stepping.advance._cached._cache_size() - before,
        "collectives": list(collectives(compiled.as_text())),
        "bytes": compiled.memory_analysis().argument_size_in_bytes,
        "shares": [
            leaf.size // math.prod(leaf.sharding.shard_shape(leaf.shape))
            for leaf in jax.tree.leaves(eqx.filter(run.carry, eqx.is_array))
            if leaf.shape in shapes
        ],
    }


def transformer() -> dict:
    """The co-occurrence transformer, with its samples shared out, and its parameters too."""
    task = gf.tasks.Cooccurrence(samples=24, length=3, vocabulary=8, width=16, neurons=32)
    problem = task.build(jax.random.key(0)).quiet()
    one, alone = run_of(problem, t1=3.0, rtol=1e-6)
    found = {"alone": alone, "parameters": [x.shape for x in jax.tree.leaves(problem.params)]}
    for data, params in ((8, 1), (4, 2)):
        many, about = run_of(gf.Mesh(data=data, params=params).place(problem), t1=3.0, rtol=1e-6)
        found[f"{data} x {params}"] = about | {
            "error": distance(numbers(one), numbers(many)),
            "evaluations": [run.stats["gradient_evaluations"] for run in (one, many)],
        }
    return found


def stiff() -> dict:
    """A flow that changes its solver, of a loss that says nothing of samples.

    At its stability limit an explicit method makes much of rounding.
    """
    rng = np.random.default_rng(0)
    data = rng.normal(size=(16, 8)) * np.geomspace(1, 60, 8), rng.normal(size=(16, 4))

    def loss(params, data):
        inputs, targets = data
        return jnp.mean((inputs @ params["w"] + params["b"] - targets) ** 2)

    params = {"w": jnp.zeros((8, 4)), "b": jnp.zeros(())}
    problem = gf.Problem(loss, params, data)
    mesh = gf.Mesh(data=2, params=4)
    one = gf.solve(problem, t1=2.0, save=SAVE)
    many, about = run_of(mesh.place(problem), t1=2.0)
    with TemporaryDirectory() as kept:
        options = {"t1": 2.0, "save": SAVE, "checkpoints": kept}
        half = gf.solve(mesh.place(problem), cancelled=lambda: True, **options)
        resumed = gf.solve(mesh.place(problem), **options)
    return about | {
        "cut at": half.final_time,
        "resumed": distance(numbers(many), numbers(resumed)),
        "solvers": [[leg["solver"] for leg in run.stats["legs"]] for run in (one, many)],
        "error": distance(one.final_params, many.final_params) / one["distance"][-1],
        "whole": mesh.whole(problem),
    }


def everything() -> dict:
    """Descents beside a flow that is certified and whose sharpness is recorded."""
    problem = gf.tasks.TeacherStudent(samples=16, width=8, activation="tanh").build(
        jax.random.key(0)
    )

    def compared(problem: gf.Problem):
        both = gf.compare(
            problem.quiet(), [0.02], t1=0.2, rtol=1e-6, optimiser=optax.adam,
            certify=True, spectrum=gf.Spectrum(eigenvalues=1), save=gf.Linear(count=3),
        )  # fmt: skip
        drift = both.record["drift"]
        return numbers(both.flow)[0], both.flow["sharpness"], both.flow["error"], drift

    return {
        "error": distance(compared(problem), compared(gf.Mesh(data=4, params=2).place(problem)))
    }


def refused() -> dict:
    """What is said of meshes that a problem does not fit."""
    task = gf.tasks.Cooccurrence(samples=24, length=3, vocabulary=8, width=4, neurons=6)
    problem = task.build(jax.random.key(0))
    said = {}
    for name, mesh in {
        "too many": gf.Mesh(data=3, params=3),
        "samples": gf.Mesh(data=5),
        "parameters": gf.Mesh(params=7),
    }.items():
        try:
            mesh.place(problem)
        except ValueError as error:
            said[name] = f"{error.key}: {error}"  # pyright: ignore[reportAttributeAccessIssue]
    try:
        gf.solve_ensemble(lambda seed: gf.Mesh(data=2).place(problem), 2, t1=1.0)
    except ValueError as error:
        said["ensemble"] = str(error)
    return said


def main() -> None:
    jax.config.update("jax_enable_x64", True)
    parts = transformer, stiff, everything, refused
    print(json.dumps({part.__name__: part() for part in parts}, default=int))


if __name__ == "__main__":
    main()
