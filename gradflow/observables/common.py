"""What every run records."""

from __future__ import annotations

from jaxtyping import Array

from .._linalg import tree_norm, tree_sub
from .observable import Observable, Snapshot


def _loss(snapshot: Snapshot) -> Array:
    return snapshot.problem.loss(snapshot.arrays, snapshot.data)


def _grad_norm(snapshot: Snapshot) -> Array:
    return tree_norm(snapshot.slope if snapshot.gradient is None else snapshot.gradient)


def _distance(snapshot: Snapshot) -> Array:
    return tree_norm(tree_sub(snapshot.arrays, snapshot.origin))


def _dissipated(snapshot: Snapshot) -> Array:
    assert snapshot.dissipated is not None
    return snapshot.dissipated


def _energy(snapshot: Snapshot) -> Array:
    assert snapshot.energy is not None
    return snapshot.energy


LOSS = Observable("loss", _loss, label="loss")
GRAD_NORM = Observable("grad_norm", _grad_norm, label="gradient norm")
DISTANCE = Observable("distance", _distance, label="distance travelled")
DISSIPATED = Observable("dissipated", _dissipated, label="integral of squared gradient norm")
# Of a field that dissipates something else than the loss.
ENERGY = Observable("flow_energy", _energy, label="energy of the flow")
COMMON = (LOSS, GRAD_NORM, DISTANCE, DISSIPATED)  # of every run of a problem with a loss
