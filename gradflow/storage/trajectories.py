"""Trajectories as netCDF files."""

from __future__ import annotations

import errno
import json
import threading
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

from ..trajectory import Trajectory, Variable
from .files import StorageError, write
from .trees import rest, with_arrays

if TYPE_CHECKING:
    import xarray


# HDF5 is not safe for threads, such as those of seeds that keep their states at one moment, and
# xarray's own locks do not cover all of it.
_ONE_AT_A_TIME = threading.Lock()


def write_trajectory(path: Path, trajectory: Trajectory) -> None:
    """A trajectory as netCDF-4, for `read_trajectory` or any reader of netCDF."""
    dataset = trajectory.to_xarray()
    record = json.dumps(rest(trajectory), default=lambda value: value.tolist())
    dataset.attrs = {"Conventions": "gradflow-1", "record": record}
    write(path, lambda beside: _to_netcdf(dataset, beside))


def _to_netcdf(dataset: xarray.Dataset, path: Path) -> None:
    from xarray.backends.netCDF4_ import NETCDF4_PYTHON_LOCK, NetCDF4DataStore

    try:
        # Left to itself, xarray would import `distributed` for the lock of a cluster that writes
        # one file together: nobody does. This one keeps out the threads of other users of xarray.
        with (
            _ONE_AT_A_TIME,
            closing(NetCDF4DataStore.open(path, mode="w", lock=NETCDF4_PYTHON_LOCK)) as store,
        ):
            dataset.dump_to_store(store)
    except RuntimeError as error:  # how netCDF says that the disk is full
        raise OSError(errno.EIO, f"{error} (is the disk full?)") from None


def read_trajectory(path: Path) -> Trajectory:
    """The trajectory in a netCDF file that `write_trajectory` made.

    Raises:
        StorageError: the file is missing, damaged or of another origin.
    """
    import xarray

    try:
        with (
            _ONE_AT_A_TIME,
            xarray.open_dataset(path, engine="netcdf4", decode_times=False) as dataset,
        ):
            dataset.load()
        record = with_arrays(json.loads(dataset.attrs["record"]))
        return Trajectory(
            variables={
                str(name): Variable(
                    array.values,
                    tuple(map(str, array.dims)),
                    array.attrs["long_name"],
                    array.attrs["units"],
                )
                for name, array in dataset.reset_coords().data_vars.items()
            },
            coords={
                str(name): array.values
                for name, array in dataset.coords.items()
                if name in dataset.dims
            },
            **record,
        )
    except FileNotFoundError:
        raise StorageError(f"{path} does not exist") from None
    except (OSError, RuntimeError) as error:
        reason = " ".join(str(error).split())
        raise StorageError(f"{path} is damaged: {reason}") from None
    except (KeyError, ValueError, TypeError, AttributeError):
        raise StorageError(f"{path} is not a trajectory that gradflow wrote") from None
