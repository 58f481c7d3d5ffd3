"""Family C, the flow against the steps that stand in for it: the paper's experiment.

The word co-occurrence transformer of `gradflow.tasks.Cooccurrence`, whose authors take 30,000
steps of 0.01, to t = 300, in float64. The error of a run is the worst of many times between the
start and the end. ``python -m benchmarks --only flow-against-descent`` measures it.
"""

from benchmarks.suite import Family

from .figure import draw
from .measure import measure

FAMILY = Family(
    "flow-against-descent",
    "C",
    "what does the flow cost beside 30,000 steps of gradient descent?",
    measure,
    draw,
)
