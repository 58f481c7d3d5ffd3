"""The benchmark suite's machinery, on families that measure nothing."""

import json
import math
from dataclasses import replace

import numpy as np
import pytest
from click.testing import CliRunner

import benchmarks.suite as suite
from benchmarks import __main__ as command
from benchmarks.families import fidelity, startup
from benchmarks.suite import (
    Column,
    Criterion,
    Effort,
    Family,
    Findings,
    Kind,
    Outcome,
    Record,
    Table,
    alternating,
    compare,
    made,
    page,
    ratios,
    running,
)

COLUMNS = (
    Column("problem"),
    Column("gradients", Kind.COUNT),
    Column("error", Kind.ERROR),
    Column("takes", Kind.SECONDS),
    Column("against it", Kind.RATIO),
    Column("solvers", Kind.WORD),
    Column("memory", Kind.NUMBER),
)


def found(gradients=1200, error=2e-4, takes=(0.010, 0.012, 0.011), against=0.8, memory=1.0):
    table = Table("Costs", COLUMNS, note="How to read it.")
    table.add("a|b", gradients, error, list(takes), [against, against + 0.01], "x to y", memory)
    table.add("c", 7, None, None, None, None, None)
    criterion = Criterion("a against b", 1.0, {"p": against, "q": 0.1})
    return Findings([table], [criterion], ["d: too slow"], {"points": [1, 2.5]})


def outcome(name="costs", **what):
    return Outcome(name, "what does it cost?", 1.5, found(**what))


def record(*outcomes):
    about = {
        "quick": True, "device": "cpu", "processors": 2, "load": {"before": 0.1},
        "commit": "abc", "versions": {"jax": "1", "torch": None},
    }  # fmt: skip
    return Record(about, list(outcomes))


def family(name, letter, measure, draw=None):
    return Family(name, letter, f"the question of {name}", measure, draw)


@pytest.fixture
def families(monkeypatch):
    """What `python -m benchmarks` finds: three families, of which the second fails."""

    def fails(effort):
        raise ValueError("nothing to divide by\nand much more")

    def draws(findings, directory):
        (directory / "fake.png").write_bytes(b"")
        return [directory / "fake.png"]

    found_there = {
        each.name: each
        for each in (
            family("costs", "A", lambda effort: found(), draws),
            family("broken", "B", fails),
            family("more", "C", lambda effort: found(error=1e-3 if effort.quick else 1e-4)),
        )
    }
    monkeypatch.setattr(suite, "discover", lambda: found_there)
    return found_there


def invoke(*arguments):
    return CliRunner().invoke(command.main, [str(each) for each in arguments])


def test_the_families_there_are_have_different_letters_and_names():
    discovered = suite.discover()
    assert {"work-precision", "stiffness", "ensembles", "fidelity"} <= set(discovered)
    letters = [each.letter for each in discovered.values()]
    assert letters == sorted(set(letters))
    assert all(name == each.name for name, each in discovered.items())


@pytest.mark.parametrize("what", ["letter", "name"])
def test_families_that_share_a_letter_or_a_name_are_refused(monkeypatch, what):
    taken = getattr(startup.FAMILY, what)
    monkeypatch.setattr(fidelity, "FAMILY", replace(fidelity.FAMILY, **{what: taken}))
    with pytest.raises(ValueError, match=f"2 families of benchmarks have the {what} '{taken}'"):
        suite.discover()


@pytest.mark.parametrize("order", [1, -1])
def test_a_criterion_that_met_nan_fails(order):
    values = dict([("a", 0.5), ("b", math.nan), ("c", 0.7)][::order])
    criterion = Criterion("ours over theirs", 1.0, values)
    assert criterion.passed is False
    assert str(criterion) == ("FAIL  ours over theirs: at most 1; 0.5 to nan (b), 1 of 3 above")
    alone = Criterion("ours over theirs", 1.0, {"b": math.nan})
    assert str(alone) == "FAIL  ours over theirs: at most 1; nan (b), 1 of 1 above"
    none = Criterion("ours over theirs", 1.0, {})
    assert (none.passed, none.worst) == (None, None)


def test_a_table_is_written_as_markdown():
    assert found().tables[0].markdown() == (
        "**Costs**\n\n"
        "| problem | gradients | error | takes | against it | solvers | memory |\n"
        "| --- | ---: | ---: | ---: | ---: | --- | ---: |\n"
        "| a\\|b | 1,200 | 2.0e-04 | 11 ms (10 ms to 12 ms) | 0.805 (0.8 to 0.81) | x to y | 1 |\n"
        "| c | 7 |  |  |  |  |  |\n\n"
        "How to read it."
    )


def test_a_record_is_read_as_it_was_written(tmp_path):
    path = tmp_path / "new" / "a.json"
    kept = Record(made(quick=True), [outcome(), Outcome("broken", "?", 0.1, None, "it broke")])
    kept.write(path)
    assert Record.read(path) == kept
    assert [each.name for each in path.parent.iterdir()] == ["a.json"]
    assert kept.made["versions"]["jax"]
    path.write_text(json.dumps({"draws": []}))
    with pytest.raises(ValueError, match=r"a\.json is no record of the suite"):
        Record.read(path)


def test_numbers_that_json_lacks_are_written_and_read(tmp_path):
    path = tmp_path / "a.json"
    kept = record(outcome(gradients=math.inf, error=-math.inf, takes=(1.0, math.nan)))
    kept.outcomes[0].findings.data = {"of NumPy": [np.float32(np.nan), np.int64(3), np.bool_(True)]}
    kept.write(path)

    def refuse(name):
        raise AssertionError(name)

    json.loads(path.read_text(), parse_constant=refuse)
    (read,) = Record.read(path).outcomes
    _, gradients, error, takes, *_ = read.findings.tables[0].rows[0]
    assert (gradients, error, takes[0]) == (math.inf, -math.inf, 1.0)
    assert math.isnan(takes[1])
    nan, *others = read.findings.data["of NumPy"]
    assert math.isnan(nan)
    assert others == [3, True]


def test_a_system_without_a_load_says_so(monkeypatch):
    monkeypatch.delattr("os.getloadavg")
    about = made(quick=True)
    assert about["load"]["before"] is None
    assert "; load before unknown\n" in page.head(about)


def test_a_failing_family_does_not_stop_the_others(families, tmp_path):
    result = invoke("--quick", "--json", tmp_path / "a.json", "--figures", tmp_path / "drawn")
    assert result.exit_code == 1
    assert "**Failed**: ValueError: nothing to divide by" in result.stdout
    assert "- broken: failed, ValueError: nothing to divide by" in result.stdout
    assert "- more: 1 of 1 criteria hold" in result.stdout
    assert "- d: too slow" in result.stdout
    assert "Traceback" not in result.stdout
    assert "and much more" not in result.stdout
    assert "and much more" in result.stderr
    assert (tmp_path / "drawn" / "fake.png").exists()
    written = Record.read(tmp_path / "a.json")
    assert [each.name for each in written.outcomes] == ["costs", "broken", "more"]
    assert written.outcomes[2].findings.tables[0].rows[0][2] == 1e-3  # what is quick is told
    again = invoke("--read", tmp_path / "a.json", "--figures", tmp_path / "again")
    assert again.exit_code == 0
    assert again.stdout == result.stdout
    assert (tmp_path / "again" / "fake.png").exists()


def test_what_cannot_be_drawn_or_written_does_not_stop_the_others(families, tmp_path):
    def draws(findings, directory):
        raise RuntimeError("no colours\nleft")

    def unwritable(effort):
        return replace(found(), data={"a set": {1, 2}})

    families["costs"] = family("costs", "A", lambda effort: found(), draws)
    families["broken"] = family("broken", "B", unwritable)
    result = invoke("--json", tmp_path / "a.json", "--figures", tmp_path)
    assert result.exit_code == 1
    assert "costs: not drawn, RuntimeError: no colours\n" in result.stderr
    assert "left" not in result.stderr
    assert result.stdout.count("**Costs**") == 3
    assert "- broken: failed, not written to " in result.stdout
    read = Record.read(tmp_path / "a.json").outcomes
    assert [each.findings is None for each in read] == [False, True, False]
    assert [each.name for each in tmp_path.iterdir()] == ["a.json"]


def test_an_interrupt_keeps_what_was_measured(families, monkeypatch, tmp_path):
    def interrupted(effort):
        raise KeyboardInterrupt

    families["broken"] = family("broken", "B", interrupted)
    result = invoke("--json", tmp_path / "a.json")
    assert result.exit_code == 130
    assert "a.json has what ended before" in result.stderr
    assert [each.name for each in Record.read(tmp_path / "a.json").outcomes] == ["costs"]


def test_families_are_chosen_by_name(families):
    assert [line.split()[:2] for line in invoke("--list").stdout.splitlines()] == [
        ["A", "costs"], ["B", "broken"], ["C", "more"],
    ]  # fmt: skip
    result = invoke("--only", "more,costs")
    assert result.exit_code == 0
    assert result.stdout.index("## costs") < result.stdout.index("## more")
    result = invoke("--only", "cost")
    assert result.exit_code == 2
    assert "'cost' (did you mean costs?); there are costs, broken, more" in result.stderr


def test_peers_that_are_absent_are_named():
    about = made(quick=False)
    about["versions"] |= {"torch": None, "torchdiffeq": None, "extensisq": "0.6.0"}
    head = page.head(about)
    assert "not installed, so not measured: torch, torchdiffeq (" in head
    about["versions"] |= {"torch": "2.14", "torchdiffeq": "0.2"}
    assert "not installed" not in page.head(about)


@pytest.mark.parametrize(
    ("after", "what", "worse"),
    [
        ({"gradients": 1300}, "count", True),
        ({"gradients": 1100}, "count", False),
        ({"error": 2.3e-4}, "error", False),
        ({"error": math.nan}, "error", False),
        ({"takes": (0.020, 0.021)}, "slower", False),
        ({"takes": (0.005, 0.006)}, "faster", False),
        ({"takes": (0.014,)}, "slower", False),
        ({"against": 0.85}, "slower", False),
        ({"memory": 1.2}, "number", False),
        ({"memory": None}, "missing", False),
    ],
)
def test_what_changed_is_found(after, what, worse):
    (comparison,) = compare(record(outcome()), record(outcome(**after)))
    (change,) = comparison.changes
    assert (change.what, change.worse) == (what, worse)
    assert (comparison.rows, comparison.alone) == (2, 0)


@pytest.mark.parametrize(
    "after",
    [
        {},
        {"error": 2.1e-4},
        {"error": 1e-5},
        {"takes": (0.0125, 0.0105)},
        {"takes": (0.013,)},
        {"memory": 1.05},
        {"memory": 0.2},
    ],
)
def test_what_may_differ_is_not_told(after):
    (comparison,) = compare(record(outcome()), record(outcome(**after)))
    assert comparison.changes == []


def test_a_criterion_that_no_longer_holds_and_a_family_that_fails_are_worse():
    (comparison,) = compare(record(outcome(against=0.995)), record(outcome(against=1.001)))
    assert [(each.what, each.worse) for each in comparison.changes] == [("criterion", True)]
    (comparison,) = compare(record(outcome(against=1.001)), record(outcome(against=0.995)))
    assert [(each.what, each.worse) for each in comparison.changes] == [("criterion", False)]
    failed = Outcome("costs", "?", 0.1, None, "it broke")
    (comparison,) = compare(record(outcome()), record(failed))
    assert comparison.changes[0].worse
    one, other = compare(record(outcome("old")), record(outcome("new")))
    assert [(each.what, each.worse) for each in one.changes] == [("missing", False)]
    assert (one.rows, one.alone, other.rows, other.alone, other.changes) == (0, 2, 0, 2, [])


def test_a_criterion_is_told_that_came_near_or_is_not_measured():
    (comparison,) = compare(record(outcome(against=0.8)), record(outcome(against=0.9)))
    assert [(each.what, each.worse) for each in comparison.changes] == [
        ("slower", False), ("margin", False),
    ]  # fmt: skip
    after = record(outcome())
    after.outcomes[0].findings.criteria = []
    (change,) = compare(record(outcome()), after)[0].changes
    assert (change.what, change.worse) == ("criterion", True)
    after.made["quick"] = False
    (change,) = compare(record(outcome()), after)[0].changes
    assert (change.what, change.worse) == ("criterion", False)


def test_a_row_that_is_gone_is_worse_and_a_table_is_told():
    after = record(outcome())
    (table,) = after.outcomes[0].findings.tables
    gone = table.rows.pop()
    (comparison,) = compare(record(outcome()), after)
    (change,) = comparison.changes
    assert (change.where, change.what, change.worse) == ("Costs, c", "missing", True)
    assert (comparison.rows, comparison.alone) == (1, 1)
    assert compare(after, record(outcome()))[0].changes == []
    after.made["quick"] = False
    assert compare(record(outcome()), after)[0].changes == []
    after.made["quick"] = True
    table.rows.append(gone)
    table.title = "Other costs"
    (change,) = compare(record(outcome()), after)[0].changes
    assert (change.where, change.what, change.worse) == ("Costs", "missing", False)


def test_two_files_are_compared_by_the_command(tmp_path):
    for name, gradients in (("old", 1200), ("new", 1201)):
        kept = record(outcome(gradients=gradients))
        kept.made |= {"commit": name, "versions": {"jax": "1", "torch": name}}
        kept.write(tmp_path / f"{name}.json")
    result = invoke("--compare", tmp_path / "old.json", tmp_path / "new.json")
    assert result.exit_code == 1
    assert result.stdout == (
        "commit: old -> new\n"
        "torch: old -> new\n"
        "- WORSE  count: Costs, a|b, gradients: 1,200 -> 1,201\n"
        "costs: 2 rows in both, 0 in one; 1 count; 1 worse\n"
    )
    assert invoke("--compare", tmp_path / "old.json", tmp_path / "old.json").exit_code == 0


def test_options_that_would_do_nothing_are_refused(tmp_path):
    path = tmp_path / "a.json"
    record(outcome()).write(path)
    for more in (["--quick"], ["--list"], ["--only", "costs"], ["--json", "b"], ["--read", path]):
        result = invoke("--compare", path, path, *more)
        assert result.exit_code == 2
        assert "--compare reads two files, and takes no other option" in result.stderr
    for more in (["--quick"], ["--json", "b"]):
        result = invoke("--read", path, *more)
        assert result.exit_code == 2
        assert "--read measures nothing" in result.stderr


def test_rounds_alternate_after_one_that_does_not_count():
    calls = []
    times = alternating({name: lambda name=name: calls.append(name) for name in "ab"}, 3)
    assert "".join(calls) == "ab" + 3 * "ab"
    assert {name: len(each) for name, each in times.items()} == {"a": 3, "b": 3}
    assert ratios([2.0, 6.0], [1.0, 2.0]) == [2.0, 3.0]


def test_nothing_is_drawn_of_a_family_that_failed(families, tmp_path):
    failed = Outcome("costs", "?", 0.1, None, "it broke")
    assert running.draw(families, failed, tmp_path / "none", print) == []
    assert not (tmp_path / "none").exists()


def test_an_effort_picks():
    assert (Effort(quick=True).pick(9, 3), Effort().pick(9, 3)) == (3, 9)
