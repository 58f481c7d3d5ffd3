"""What a configuration with sweeps in it means, and what is told where it means nothing."""

import json

import jsonschema
import numpy as np
import pytest
from command import CONFIGS, gradflow, listing

from gradflow import sweep
from gradflow.config import Config, ConfigError

HEAD = "problem: {kind: matrix-factorisation, size: 4, strengths: [2, 1]}\n"


def planned(folder, text, *overrides):
    path = folder / "grid.yaml"
    path.write_text(HEAD + text, encoding="utf-8")
    return sweep.plan(path, overrides)


def faults(folder, text, *overrides):
    with pytest.raises(ConfigError) as caught:
        planned(folder, text, *overrides)
    return [str(fault).removeprefix(f"{folder}/grid.yaml:") for fault in caught.value.faults]


def rtols(plan):
    return [point.config.flow.rtol for point in plan.points]


@pytest.mark.parametrize(
    ("written", "values"),
    [
        ("[1e-3, 1e-5]", [1e-3, 1e-5]),
        ("{log: [1e-5, 1e-3, 3]}", [1e-5, 1e-4, 1e-3]),
        ("{linear: [0.001, 0.002, 3]}", [0.001, 0.0015, 0.002]),
    ],
)
def test_a_sweep_is_a_list_or_a_range(written, values, tmp_path):
    plan = planned(tmp_path, f"flow: {{t1: 1, rtol: {{sweep: {written}}}}}")
    assert rtols(plan) == values
    assert [dim.name for dim in plan.dimensions] == ["rtol"]
    assert plan.dimensions[0].labels.tolist() == values


def test_whole_numbers_stay_whole(tmp_path):
    text = "flow: {t1: 1}\nproblem.width: 1\nseed: {sweep: {range: [3, 6]}}"
    text = text.replace("problem.width: 1\n", "")
    plan = planned(tmp_path, text, "problem.width={sweep: {log: [4, 64, 5]}}")
    assert plan.dimensions[0].labels.tolist() == [4, 8, 16, 32, 64]
    assert plan.dimensions[1].labels.tolist() == [3, 4, 5]
    assert plan.shape == (5, 3)


def test_different_sweeps_make_a_grid_whose_last_dimension_is_fastest(tmp_path):
    plan = planned(tmp_path, "flow: {t1: 1, rtol: {sweep: [1e-3, 1e-4]}}\nseed: {sweep: [5, 7, 9]}")
    found = [(p.index, p.config.flow.rtol, p.config.seed) for p in plan.points]
    assert found == [
        ((i, j), rtol, seed)
        for i, rtol in enumerate([1e-3, 1e-4])
        for j, seed in enumerate([5, 7, 9])
    ]
    assert len({point.key for point in plan.points}) == 6


def test_zipped_sweeps_go_together(tmp_path):
    text = """flow: {t1: {sweep: [1, 2], zip: case}, rtol: {sweep: [1e-3, 1e-4], zip: case}}
seed: {sweep: [0, 1]}
"""
    plan = planned(tmp_path, text)
    (case, seed) = plan.dimensions
    assert (case.name, seed.name, plan.shape) == ("case", "seed", (2, 2))
    assert [axis.name for axis in case.axes] == ["t1", "rtol"]
    assert case.labels.tolist() == [0, 1]
    assert [(p.config.flow.t1, p.config.flow.rtol) for p in plan.points[::2]] == [
        (1, 1e-3),
        (2, 1e-4),
    ]


def test_a_value_may_come_again_beside_another_one(tmp_path):
    text = "flow: {t1: {sweep: [1, 1, 2], zip: a}, rtol: {sweep: [1e-3, 1e-4, 1e-3], zip: a}}"
    plan = planned(tmp_path, text)
    assert [p.config.flow.t1 for p in plan.points] == [1, 1, 2]
    assert len({p.key for p in plan.points}) == 3


def test_a_zip_may_have_the_name_of_one_of_its_keys(tmp_path):
    text = "flow: {t1: {sweep: [1, 2], zip: t1}, rtol: {sweep: [1e-3, 1e-4], zip: t1}}"
    plan = planned(tmp_path, text)
    assert plan.dimensions[0].labels.tolist() == [1, 2]


def test_a_name_that_would_mean_two_things_is_the_whole_path(tmp_path):
    text = """flow: {t1: 1, stop: {loss: {sweep: [0.1, 0.2]}}, save: {kind: linear, count: 4}}
descent: {learning_rates: [{sweep: [0.1, 0.2]}, 0.05]}
"""
    plan = planned(tmp_path, text)
    names = [dim.name for dim in plan.dimensions]
    assert names == ["flow.stop.loss", "descent.learning_rates.0"]
    assert plan.points[-1].config.descent.learning_rates == (0.2, 0.05)


def test_whole_mappings_and_lists_are_swept_too(tmp_path):
    text = """flow: {t1: 1, field: {sweep: [gradient, {kind: modified, learning_rate: 0.1}]}}
descent: {learning_rates: {sweep: [[0.1], [0.05]]}}
"""
    plan = planned(tmp_path, text)
    assert plan.dimensions[0].labels.tolist() == ["gradient", "modified"]
    assert plan.dimensions[1].labels.tolist() == [0.1, 0.05]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("flow: {t1: 1}", ["1:1: no sweep in it; allowed: key: {sweep: [...]} in place of a val"]),
        # In the place of every value.
        (
            "flow: {t1: 1, rtol: {sweep: [1e-3, 7, nil]}}",
            [
                "2:36: flow.rtol: got 7; allowed: a finite number above 0 and below 1",
                "2:39: flow.rtol: got the text 'nil'; allowed: a finite number above",
            ],
        ),
        # All at once, of sweeps and of what is beside them.
        (
            "flow: {t1: -1}\nseed: {sweep: {range: [0, 2]}}\nprecison: float32",
            [
                "2:12: flow.t1: got -1; allowed: a finite number above 0",
                "4:1: precison: unknown key 'precison'; did you mean 'precision'? allowed: ",
            ],
        ),
        (
            "flow: {t1: {sweep: []}}",
            ["2:20: flow.t1.sweep: got the list []; allowed: a list of 1 "],
        ),
        ("flow: {t1: {sweep: 3}}", ["2:20: flow.t1.sweep: got 3; allowed: a list of 1 or more it"]),
        (
            "flow: {t1: {sweep: {lgo: [1, 2, 3]}}}",
            ["2:21: flow.t1.sweep.lgo: unknown key 'lgo'; did you mean 'log'? allowed: log, linea"],
        ),
        (
            "flow: {t1: {sweep: {log: [0, 2, 3]}}}",
            ["2:27: flow.t1.sweep.log.0: got 0; allowed: a finite number above 0"],
        ),
        (
            "flow: {t1: {sweep: {log: [1, 2, 3], linear: [1, 2, 3]}}}",
            ["2:20: flow.t1.sweep: got log and linear; allowed: exactly one of log, linear, range"],
        ),
        (
            "flow: {t1: {sweep: {range: [3, 3]}}}",
            ["2:20: flow.t1.sweep: no whole number from 3 on"],
        ),
        (
            "flow: {t1: {sweep: [1], zpi: a}}",
            ["2:25: flow.t1.zpi: unknown key 'zpi'; did you mean"],
        ),
        (
            "flow: {t1: {sweep: [1, 2, 1]}}",
            ["2:27: flow.t1: 1 makes the same run as 1 before it; allowed: each once"],
        ),
        (
            "flow: {t1: {sweep: [1, 1.0]}}\nseed: {sweep: [1, 2]}",
            ["2:24: flow.t1: 1.0 makes the same run as 1 before it; allowed: each once"],
        ),
        (
            "flow: {t1: {sweep: [1, 1], zip: t1}, rtol: {sweep: [1e-3, 1e-4], zip: t1}}",
            ["2:33: flow.t1.zip: the name 't1' is taken; allowed: another"],
        ),
        (
            "flow: {t1: 1}\nseed: {sweep: [1, 2]}\nmesh: {data: 2, distributed: true}",
            ["4:30: mesh.distributed: every point is run by one process; allowed: false"],
        ),
        (
            "flow: {t1: {sweep: [1, {sweep: [2, 3]}]}}",
            ["2:24: flow.t1: a sweep; allowed: one value here"],
        ),
        (
            "flow: {t1: {sweep: [1, 2], zip: a}, rtol: {sweep: [1e-3], zip: a}}",
            ["2:43: flow.rtol: 1 values, and flow.t1, with which it is zipped, has 2; allowed: as"],
        ),
        (
            "flow: {t1: {sweep: [1, 2], zip: both}}",
            ["2:33: flow.t1.zip: nothing else is zipped as 'both'; allowed: the zip of an"],
        ),
        (
            "flow: {t1: {sweep: [1], zip: time}, rtol: {sweep: [1e-3], zip: time}}",
            ["2:30: flow.t1.zip: the name 'time' is taken; allowed: another"],
        ),
        (
            "flow: {t1: 1}\nreport: {sweep: [true]}",
            ["3:9: report: the numbers of a run do not dep"],
        ),
        (
            "flow: {t1: 1}\nseed: &all {sweep: {range: [0, 400]}}\ndata_seed: *all",
            ["1:1: the sweeps make 160000 points; allowed: 100000"],
        ),
    ],
    ids=str,
)
def test_what_is_wrong_is_told_where_it_stands(text, expected, tmp_path):
    found = faults(tmp_path, text)
    assert len(found) == len(expected), found
    for line, beginning in zip(found, expected, strict=True):
        assert line.startswith(beginning)


def test_a_fault_between_two_keys_is_told_at_the_swept_one(tmp_path):
    text = "flow: {t1: 1}\ndescent: {learning_rates: {sweep: [[0.5], [2]]}}"
    assert faults(tmp_path, text) == [
        "3:43: descent.learning_rates: the learning rate 2 is larger than flow.t1 = 1, so that not "
        "one step fits; allowed: at most flow.t1"
    ]


def test_a_study_is_no_point(tmp_path):
    path = tmp_path / "grid.yaml"
    path.write_text(
        "problem: {kind: coupled}\nflow: {t1: 1}\nseed: {sweep: [1, 2]}\n"
        "scaling: {vary: {width: [8, 16]}}\n"
    )
    with pytest.raises(ConfigError, match=r"4:1[01]?: scaling: a study is a sweep of its own"):
        sweep.plan(path)


def test_a_sweep_comes_from_the_command_line_too(tmp_path):
    plan = planned(tmp_path, "flow: {t1: 1}", "flow.rtol={sweep: [1e-3, 1e-4]}")
    assert rtols(plan) == [1e-3, 1e-4]
    (told,) = faults(tmp_path, "flow: {t1: 1}", "flow.rtol={sweep: [1e-3, 5]}")
    assert told.startswith("override-1:1:26: flow.rtol: got 5; allowed: ")


def test_points_are_known_by_what_their_numbers_depend_on(tmp_path):
    text = "flow: {t1: 1}\nseed: {sweep: [1, 2, 3]}\n"
    keys = {point.key for point in planned(tmp_path, text).points}
    outward = text + "figures: false\nreport: false\noutput: elsewhere\nprecision: float64\n"
    assert {point.key for point in planned(tmp_path, outward).points} == keys
    grown = {point.key for point in planned(tmp_path, text.replace("3]", "3, 4]")).points}
    assert grown > keys
    finer = planned(tmp_path, text, "flow.rtol=1e-7")
    assert keys.isdisjoint(point.key for point in finer.points)


def test_a_file_of_the_users_counts_by_what_is_in_it(tmp_path):
    def key(folder, code):
        folder.mkdir(exist_ok=True)
        (folder / "mine.py").write_text(code)
        path = folder / "own.yaml"
        path.write_text(
            "problem: {kind: python, target: mine.py:make, args: {w: {sweep: [1, 2]}}}\n"
            "flow: {t1: 1}\n"
        )
        return sweep.plan(path).points[0].key

    before = key(tmp_path / "a", "make = 1")
    assert key(tmp_path / "b", "make = 1") == before
    assert key(tmp_path / "a", "make = 2") != before


def test_the_configuration_that_is_kept_means_the_same(tmp_path):
    text = "flow: {t1: {sweep: [1, 2], zip: a}, rtol: {sweep: {log: [1e-3, 1e-4, 2]}, zip: a}}"
    plan = planned(tmp_path, text, "seed={sweep: {range: [0, 2]}}")
    (tmp_path / "again.yaml").write_text(plan.dump())
    again = sweep.plan(tmp_path / "again.yaml")
    assert [point.key for point in again.points] == [point.key for point in plan.points]
    assert again.dump() == plan.dump()


def test_labels_are_numbers_where_all_values_are(tmp_path):
    plan = planned(tmp_path, "flow: {t1: {sweep: [1, 2.5]}, certify: {sweep: [true, false]}}")
    assert plan.dimensions[0].labels.dtype.kind == "f"
    assert plan.dimensions[1].labels.tolist() == ["true", "false"]


# The commands.

GRID = HEAD + "flow: {t1: 1, rtol: {sweep: [1e-3, 1e-4]}}\nseed: {sweep: {range: [0, 20]}}\n"


def test_validate_says_what_a_sweep_consists_of(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "grid.yaml").write_text(GRID)
    done = gradflow("validate", "grid.yaml")
    assert (done.code, done.err) == (0, "")
    assert done.out.splitlines() == [
        "40 points",
        "rtol: 2 values of flow.rtol: 0.001, 0.0001",
        "seed: 20 values of seed: 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 1…",
    ]


@pytest.mark.parametrize("command", ["validate", "sweep"])
def test_a_faulty_sweep_ends_a_command_before_anything_is_written(command, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "grid.yaml").write_text(GRID.replace("1e-4]", "4]"))
    before = listing(tmp_path)
    done = gradflow(command, "grid.yaml")
    assert (done.code, done.out, done.err.count("\n")) == (2, "", 1)
    assert done.err.startswith("grid.yaml:2:36: flow.rtol: got 4; allowed: ")
    assert listing(tmp_path) == before


def test_the_shipped_sweep_is_one():
    plan = sweep.plan(CONFIGS / "sweep.yaml")
    assert [dim.name for dim in plan.dimensions] == ["width", "seed"]
    assert {(p.config.problem.width, p.config.problem.neurons) for p in plan.points} == {
        (m, m) for m in (8, 16, 32, 64)
    }


def test_solve_names_the_command_that_runs_a_sweep(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "grid.yaml").write_text(GRID)
    done = gradflow("solve", "grid.yaml")
    message = "a sweep; allowed: one value here, or gradflow sweep, which runs them all"
    assert (done.code, done.out) == (2, "")
    assert done.err.splitlines() == [
        f"grid.yaml:2:21: flow.rtol: {message}",
        f"grid.yaml:3:7: seed: {message}",
    ]


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (["--workers", "0"], "got 0 workers; allowed: 1 or more"),
        (["--workers", "2", "--scheduler", "tcp://x:1"], "the workers of a scheduler are those"),
        (["--scheduler", "tcp://x:1", "--scheduler-file", "x"], "got a scheduler and a scheduler"),
    ],
    ids=str,
)
def test_workers_that_cannot_be(options, told, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "grid.yaml").write_text(GRID)
    done = gradflow("sweep", "grid.yaml", *options)
    assert (done.code, done.out) == (2, "")
    assert told in done.err


def test_another_run_is_not_taken_for_a_sweep(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "grid.yaml").write_text(GRID)
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "notes.md").write_text("mine")
    done = gradflow("sweep", "grid.yaml", "--output", "full")
    assert (done.code, done.out) == (2, "")
    assert done.err.startswith("--output:1:1: full exists; allowed: another directory, by --output")


def test_the_schema_takes_a_sweep_in_the_place_of_every_value(tmp_path):
    validator = jsonschema.Draft202012Validator(sweep.schema())
    given = planned(tmp_path, "flow: {t1: 1, rtol: {sweep: [1e-3]}}\nseed: {sweep: [1, 2]}").given
    validator.validate(json.loads(json.dumps(given)))
    with pytest.raises(jsonschema.ValidationError):
        validator.validate(given | {"seed": {"swep": [1]}})


def test_ranges_end_where_they_are_told_to():
    assert sweep.Range(linear=(0, 10, 6)).values == [0, 2, 4, 6, 8, 10]
    ratio = np.diff(np.log(sweep.Range(log=(1e-3, 0.5, 7)).values))
    np.testing.assert_allclose(ratio, np.log(500) / 6, rtol=1e-10)


def test_a_plan_is_the_same_whoever_makes_it():
    config = Config(problem={"kind": "digits"}, flow={"t1": 1.0})
    assert sweep.key_of(config) == sweep.key_of(
        Config.model_validate_json(config.model_dump_json())
    )
