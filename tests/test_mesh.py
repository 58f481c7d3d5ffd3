"""A run that is spread over many devices is the run on one, and its state stays where it is."""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
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


def test_a_run_that_was_cut_goes_on_to_the_same_bits(found):
    assert 0 < found["stiff"]["cut at"] < 2
    assert found["stiff"]["resumed"] == 0


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


CONFIG = """
problem: {kind: deep-linear, depth: 2, strengths: [2.0, 1.0], width: 4, samples: 4}
flow: {t1: 1, rtol: 1e-6, save: {kind: linear, count: 3}}
figures: false
report: false
"""


def test_two_processes_are_one_run_which_the_first_keeps(tmp_path):
    config = tmp_path / "config.yaml"
    config.write_text(CONFIG)
    with socket.socket() as found:
        found.bind(("localhost", 0))
        coordinator = f"localhost:{found.getsockname()[1]}"
    commands = [
        [
            *(sys.executable, "-m", "gradflow", "solve", config, "--output", tmp_path / f"{i}"),
            "mesh={data: 2, params: 2}",
            f"mesh.distributed={{coordinator: '{coordinator}', processes: 2, process: {i}}}",
        ]
        for i in range(2)
    ]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    started = [subprocess.Popen(each, env=devices(2), **pipes) for each in commands]
    # One core does what else it has to do meanwhile.
    assert gradflow("solve", config, "--output", tmp_path / "alone", "--quiet").code == 0
    ended = [process.communicate(timeout=120) for process in started]
    assert [process.returncode for process in started] == [0, 0], ended
    assert "t = 1, loss" in ended[0][1]
    assert "t = 1" not in ended[1][1]
    assert not (tmp_path / "1").exists()
    one, two = (gf.load(tmp_path / name) for name in ("alone", "0"))
    assert two.manifest["mesh"] == {"data": 2, "params": 2, "devices": 4, "processes": 2}
    for name in ("loss", "strength", "entry"):
        np.testing.assert_allclose(two.flow[name], one.flow[name], rtol=1e-12, atol=1e-14)
    with (
        np.load(tmp_path / "alone/flow-final.npz") as a,
        np.load(tmp_path / "0/flow-final.npz") as b,
    ):
        assert a.keys() == b.keys()
        for name in a:
            np.testing.assert_allclose(b[name], a[name], rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize(
    ("overrides", "fault"),
    [
        (["mesh.data=1000"], "mesh.data: data = 1000 times params = 1 are 1000 devices, and JAX"),
        (["mesh.data=0"], "mesh.data: got 0; allowed: a whole number of at least 1"),
        (["mesh.data=1", "seeds=2"], "mesh: one run is spread, and there are 2 seeds"),
        (
            ["mesh={params: 2, distributed: true}", "polish=true"],
            "polish: what is polished must lie whole on every host",
        ),
    ],
)
def test_a_mesh_that_cannot_be_is_told_at_its_key(tmp_path, overrides, fault):
    config = tmp_path / "config.yaml"
    config.write_text(CONFIG)
    done = gradflow("solve", config, "--output", tmp_path / "run", *overrides)
    assert done.code == 2
    assert fault in done.err
    assert not (tmp_path / "run").exists()
