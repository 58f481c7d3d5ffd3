"""The wall times of descents and flows, the flows after each of the descents."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import chain
from typing import Any

from benchmarks.suite import ratios, seconds


@dataclass(frozen=True)
class Race:
    """What each took.

    Attributes:
        descents: seconds of every round, by name.
        flows: seconds of every run of every round, by name; one run for each descent.
    """

    descents: dict[str, list[float]]
    flows: dict[str, list[list[float]]]

    def flow(self, name: str) -> list[float]:
        """Seconds of all runs of a flow."""
        return list(chain.from_iterable(self.flows[name]))

    def share(self, flow: str, descent: str) -> list[float]:
        """The flow's seconds over the descent's, round by round."""
        middles = [statistics.median(times) for times in self.flows[flow]]
        return ratios(middles, self.descents[descent])


def race(
    descents: Mapping[str, Callable[[], Any]],
    flows: Mapping[str, Callable[[], float]],
    rounds: int,
    say: Callable[[str], None],
) -> Race:
    """Run everything `rounds` times; it must be compiled.

    Unlike `benchmarks.suite.alternating`, which begins with a run of each that is not counted: a
    descent takes long, and is compiled by fewer steps.

    Args:
        descents: do not return before their result is there.
        flows: say themselves how many seconds they took.
        rounds: how often.
        say: told of every descent.
    """
    found = Race({name: [] for name in descents}, {name: [] for name in flows})
    for _ in range(rounds):
        for runs in found.flows.values():
            runs.append([])
        for name, descend in descents.items():
            found.descents[name].append(seconds(descend))
            say(f"{name}: {found.descents[name][-1]:.2f} s")
            for flow, run in flows.items():
                found.flows[flow][-1].append(run())
    return found
