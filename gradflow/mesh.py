"""One run over many devices: which arrays of a problem are shared out, and along which axis."""

from __future__ import annotations

from collections import Counter
from typing import Annotated, Any

import equinox as eqx
import jax
from jax.sharding import AxisType, NamedSharding, PartitionSpec
from jaxtyping import Array
from pydantic import Field

from ._devices import put
from ._spec import Spec
from .problem import Problem, expect

_DATA, _PARAMS = "data", "params"

Count = Annotated[int, Field(ge=1, lt=2**31)]


class MeshError(ValueError):
    """A mesh that this problem, or this machine, cannot be put on.

    Attributes:
        key: the field of `Mesh` to change.
    """

    def __init__(self, key: str, message: str):
        self.key = key
        super().__init__(message)


class Cluster(Spec):
    """Which processes run together, where JAX cannot find that out by itself.

    Attributes:
        coordinator: HOST:PORT of the first of them, on which the others call.
        processes: how many there are.
        process: which of them this one is, from 0.

    >>> from gradflow.mesh import Cluster
    >>> Cluster(coordinator="node1:1234", processes=2, process=1).process
    1
    """

    coordinator: Annotated[str, Field(pattern=r"^.+:\d+$")]
    processes: Count
    process: Annotated[int, Field(ge=0, lt=2**31)]


class Mesh(Spec):
    """Devices, data x params of them, over which one run is spread.

    Each sample's data lie on one device of `data`, and every array of the parameters is cut along
    the longest of its axes that `params` divides; one without such an axis lies whole on all of
    them, as do data that are none of a sample. Everything that a run computes follows from where
    these lie: its answers are those of one device, to rounding. Gradients are summed over the
    devices of `data`; the solver's own arithmetic stays where the parameters are, and only norms
    are summed over those of `params`. Three take all parameters as one vector, of which every
    device then holds the whole: spectra, polishing and `gradflow.solvers.LanczosRadius`.

    The arrays of a problem are made on one device, or on each host, before they are placed.

    Attributes:
        data: how many devices share the samples; a divisor of their number.
        params: how many devices share the parameters.
        distributed: whether the devices are those of several processes, each of which runs the
            same command: true where JAX finds them, as it does under SLURM, Open MPI and
            Kubernetes; else who they are.

    >>> import jax.numpy as jnp
    >>> import gradflow as gf
    >>> def loss(params, data):
    ...     return jnp.mean((data @ params - 1.0) ** 2)
    >>> problem = gf.Problem(loss, jnp.zeros(2), jnp.ones((6, 2)))
    >>> placed = gf.Mesh(data=1).place(problem)  # on a machine of one device
    >>> tuple(placed.data.sharding.spec)
    ('data',)
    """

    data: Count = 1
    params: Count = 1
    distributed: bool | Cluster = False

    @property
    def size(self) -> int:
        """How many devices that is."""
        return self.data * self.params

    def join(self) -> None:
        """Let the processes that run together find each other, where there are to be several.

        Has to come before anything else is asked of JAX.

        Raises:
            MeshError: they cannot be found.
        """
        if self.distributed is False or jax.distributed.is_initialized():
            return
        given: dict[str, Any] = {}
        if isinstance(self.distributed, Cluster):
            given = {
                "coordinator_address": self.distributed.coordinator,
                "num_processes": self.distributed.processes,
                "process_id": self.distributed.process,
            }
        try:
            jax.distributed.initialize(**given)
        except ValueError as error:  # it has looked for them, and found none
            message = (
                f"{_one_line(error)}; JAX finds processes that run together under SLURM, Open MPI "
                "and Kubernetes: elsewhere set coordinator, processes and process"
            )
            raise MeshError("distributed", message) from None
        except RuntimeError as error:
            raise MeshError("distributed", _one_line(error)) from None

    def place(self, problem: Problem) -> Problem:
        """The same problem with its parameters and data on the devices of this mesh.

        For a problem that was given by `sample_loss`, of every array of the data the first axis
        that is as long as there are samples is shared out. Of others nobody says which axes run
        over samples: taken is the first axis of all arrays of which most are as long.

        Raises:
            MeshError: there are not so many devices, or they cannot be given equal shares.
        """
        expect(problem)
        mesh = jax.make_mesh(
            (self.data, self.params),
            (_DATA, _PARAMS),
            (AxisType.Auto, AxisType.Auto),
            devices=self._devices(),
        )
        length = self._samples(problem)
        self._check_params(problem)

        def cut(leaf: Array, axis: int | None, name: str) -> Array:
            # As compiled programs write it, to which one written otherwise would be another.
            spec = () if axis is None else (*(None,) * axis, name)
            return put(leaf, NamedSharding(mesh, PartitionSpec(*spec)))

        def shared(leaf: Any) -> Any:
            if not eqx.is_array(leaf):
                return leaf
            # Of arrays without samples of their own, only the first axis is likely to be one.
            axes = leaf.shape if problem.has_samples else leaf.shape[:1]
            return cut(leaf, axes.index(length) if length in axes else None, _DATA)

        data = jax.tree.map(shared, problem.data)
        params = jax.tree.map(lambda x: cut(x, self._cut(x), _PARAMS), problem.params)
        return eqx.tree_at(
            lambda p: (p.params, p.data), problem, (params, data), is_leaf=lambda x: x is None
        )

    def whole(self, problem: Problem) -> tuple[str, ...]:
        """The parameters that lie whole on every device, having no axis that `params` divides.

        >>> import jax.numpy as jnp
        >>> import gradflow as gf
        >>> params = {"w": jnp.ones((4, 3)), "b": jnp.ones(3)}
        >>> problem = gf.Problem(lambda p, data: p["w"].sum() + p["b"].sum(), params)
        >>> gf.Mesh(params=2).whole(problem)
        ('b',)
        """
        if self.params == 1:
            return ()
        return tuple(
            jax.tree_util.keystr(path, simple=True, separator=".")
            for path, leaf in jax.tree_util.tree_leaves_with_path(problem.params)
            if self._cut(leaf) is None
        )

    def _devices(self) -> list[jax.Device]:
        every = jax.devices()
        if self.size > len(every):
            remedy = (
                f"; on a CPU set XLA_FLAGS=--xla_force_host_platform_device_count={self.size}"
                if every[0].platform == "cpu" and jax.process_count() == 1
                else ""
            )
            raise MeshError(
                _DATA if self.data > 1 else _PARAMS,
                f"data = {self.data} times params = {self.params} are {self.size} devices, and JAX "
                f"has {len(every)}; allowed: as many at most{remedy}",
            )
        if jax.process_count() > 1 and self.size < len(every):
            raise MeshError(
                _DATA,
                f"data = {self.data} times params = {self.params} are {self.size} devices, and "
                f"the {jax.process_count()} processes have {len(every)}; allowed: all of them",
            )
        return every[: self.size]

    def _samples(self, problem: Problem) -> int | None:
        """How long the axes of the data are that are shared out; ``None`` if there are none."""
        length = _sample_count(problem)
        if length is None and self.data > 1:
            message = f"the data have no axis of samples for {self.data} devices to share"
            raise MeshError(_DATA, f"{message}; allowed: 1")
        if length is not None and length % self.data:
            raise MeshError(
                _DATA,
                f"the data's axis of length {length} cannot be cut into {self.data} equal parts; "
                f"allowed: {_listed({length})}",
            )
        return length

    def _check_params(self, problem: Problem) -> None:
        if len(self.whole(problem)) == len(jax.tree.leaves(problem.params)):
            lengths = {n for leaf in jax.tree.leaves(problem.params) for n in leaf.shape}
            raise MeshError(
                _PARAMS,
                f"no axis of a parameter can be cut into {self.params} equal parts; "
                f"allowed: {_listed(lengths)}",
            )

    def _cut(self, leaf: Array) -> int | None:
        """The axis along which a parameter is shared out; ``None`` if it is not."""
        fit = [(n, -i) for i, n in enumerate(leaf.shape) if n and n % self.params == 0]
        return -max(fit)[1] if fit and self.params > 1 else None


def _sample_count(problem: Problem) -> int | None:
    """The length of the axes of the data that run over samples, as far as can be told."""
    arrays = [leaf for leaf in jax.tree.leaves(problem.data) if eqx.is_array(leaf) and leaf.size]
    if problem.has_samples:
        losses = jax.eval_shape(problem.sample_losses, problem.params, problem.data)
        count = losses.shape[0]
        return count if any(count in leaf.shape for leaf in arrays) else None
    lengths = Counter(leaf.shape[0] for leaf in arrays if leaf.ndim)
    return lengths.most_common(1)[0][0] if lengths else None


def _listed(lengths: set[int]) -> str:
    """The counts of devices, of as many as there are, that divide any of these lengths."""
    counts = range(1, len(jax.devices()) + 1)
    return ", ".join(str(k) for k in counts if any(n and n % k == 0 for n in lengths))


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split()).rstrip(".")
