"""From the ends of flows to the critical points that they go to.

``python -m benchmarks.polishing [NAME ...]``: the problems of the suite at seed 0, by default *hi*.
"""

import sys

import jax

import gradflow as gf

from .problems import PROBLEMS

RTOL = 1e-3


def main(names):
    jax.config.update("jax_enable_x64", True)
    for name in names or ("hi",):
        case = PROBLEMS[name]
        problem = case.build(seed=0)
        flow = gf.solve(problem, t1=case.t1, rtol=RTOL)
        point = gf.polish(problem, flow)
        print(
            f"{name}: {problem.size} parameters, from t = {case.t1:g}: {point.type}, "
            f"gradient norm {point.gradient_norm:.1e}, {point.steps} steps of {point.method}, "
            f"flat {point.flat}, heading there {point.heading_there}, t_infinity "
            f"{point.t_infinity}, {point.gradient_evaluations} gradients after the flow's "
            f"{flow.stats['gradient_evaluations']}"
        )


if __name__ == "__main__":
    main(sys.argv[1:])
