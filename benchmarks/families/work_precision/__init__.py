"""Work-precision diagrams: the error of a solver against what it costs.

``python -m benchmarks.work_precision --problems hi,mlp --seeds 2 --json FILE --figures DIR`` runs
every solver of gradflow's, diffrax's and SciPy's that fits over a ladder of tolerances, prints
tables and the criteria that the stiff regime is judged by, and draws figures. See `__main__`.
"""
