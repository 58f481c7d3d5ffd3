"""A run that is spread over many devices is the run on one, and its state stays where it is."""

import json
import os
import subprocess
import sys
from pathlib import Path

import jax.numpy as jnp
import pytest
from command import gradflow

import gradflow as gf

HERE = Path(__file__).parent


def devices(count: int) -> dict[str, str]:
    """The environment of a process that has so many, on a CPU."""
    flags = f"{os.environ['XLA_FLAGS']} --xla_force_host_platform_device_count={count}"
    path = os.pathsep.join([str(HERE.parent), os.environ.get("PYTHONPATH", "")])
    return os.environ | {"XLA_FLAGS": flags, "JAX_PLATFORMS": "cpu", "PYTHONPATH": path}


@pytest.fixture(scope="module")
def found():
    """What `meshed` has found on eight devices."""
    done = subprocess.run(
        [sys.executable, HERE / "meshed.py"], env=devices(8), capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.mark.parametrize("mesh", ["8 x 1", "4 x 2"])
def test_a_flow_is_that_of_one_device_to_rounding(found, mesh):
    assert found["transformer"][mesh]["error"] < 1e-12
    one, many = found["transformer"][mesh]["evaluations"]
    assert one == many


def test_nothing_is_gathered_where_samples_are_shared_out(found):
    sent = found["transformer"]["8 x 1"]["collectives"]
    assert {each["kind"] for each in sent} == {"all-reduce"}
    assert not found["transformer"]["alone"]["collectives"]


def test_no_parameter_is_gathered_where_these_are_shared_out(found):
    shapes = found["transformer"]["parameters"]
    gathered = [
        shape
        for each in found["transformer"]["4 x 2"]["collectives"]
        if each["kind"] != "all-reduce"
        for shape in each["shapes"]
    ]
    assert gathered  # the loss multiplies matrices that are cut along what it sums over
    assert not any(shape in shapes for shape in gathered)
    assert max(len(shape) for shape in gathered) == 1


def test_a_solver_sends_nothing_but_sums(found):
    # As the matrix products of this loss are sums over the axis that is cut.
    assert {each["kind"] for each in found["stiff"]["collectives"]} == {"all-reduce"}
    assert set(found["stiff"]["shares"]) == {4, 1}  # of w, and of the bias, which lies whole


def test_whatever_is_shaped_as_parameters_stays_cut_as_these_are(found):
    flows = found["transformer"]
    assert len(flows["4 x 2"]["shares"]) == len(flows["alone"]["shares"]) >= 12
    assert set(flows["4 x 2"]["shares"]) == {2}
    assert flows["4 x 2"]["bytes"] < 0.6 * flows["alone"]["bytes"]


def test_one_program_serves_the_whole_run(found):
    assert [found["transformer"][mesh]["programs"] for mesh in ("8 x 1", "4 x 2")] == [1, 1]
    assert found["stiff"]["programs"] == 2  # one for each solver


def test_the_solver_changes_where_it_does_on_one_device(found):
    one, many = found["stiff"]["solvers"]
    assert one == many == ["bosh3", "rkc2"]
    assert found["stiff"]["error"] < 1e-2 * 1e-4  # of rtol
    assert found["stiff"]["whole"] == ["b"]


def test_descents_certificates_and_spectra_are_those_of_one_device(found):
    assert found["everything"]["error"] < 1e-12


def test_what_cannot_be_shared_out_is_told_with_what_can(found):
    said = found["refused"]
    assert said["samples"] == (
        "data: the data's axis of length 24 cannot be cut into 5 equal parts; "
        "allowed: 1, 2, 3, 4, 6, 8"
    )
    assert said["parameters"] == (
        "params: no axis of a parameter can be cut into 7 equal parts; allowed: 1, 2, 3, 4, 6, 8"
    )
    assert said["too many"].startswith("data: data = 3 times params = 3 are 9 devices")
    assert said["too many"].endswith("XLA_FLAGS=--xla_force_host_platform_device_count=9")
    assert "gradflow.Mesh" in said["ensemble"]
