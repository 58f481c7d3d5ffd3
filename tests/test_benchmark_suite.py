"""The benchmark suite's machinery, on families that measure nothing."""

import json
import math

import pytest
from click.testing import CliRunner

import benchmarks.suite as suite
from benchmarks import __main__ as command
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
)


def found(gradients=1200, error=2e-4, takes=(0.010, 0.012, 0.011), against=0.8):
    table = Table("Costs", COLUMNS, note="How to read it.")
    table.add("a|b", gradients, error, list(takes), [against, against + 0.01], "x to y")
    table.add("c", 7, None, None, None, None)
    criterion = Criterion("a against b", 1.0, {"p": against, "q": 0.1})
    return Findings([table], [criterion], ["d: too slow"], {"points": [1, 2.5]})


def outcome(name="costs", **what):
    return Outcome(name, "what does it cost?", 1.5, found(**what))


def record(*outcomes):
    about = {"quick": True, "device": "cpu", "processors": 2, "load": {"before": 0.1}}
    return Record(about, list(outcomes))


def family(name, letter, measure, draw=None):
    return Family(name, letter, f"the question of {name}", measure, draw)


@pytest.fixture
def families(monkeypatch):
    """What `python -m benchmarks` finds: three families, of which the second fails."""

    def fails(effort):
        raise ValueError("nothing to divide by")

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


def test_a_table_is_written_as_markdown():
    assert found().tables[0].markdown() == (
        "**Costs**\n\n"
        "| problem | gradients | error | takes | against it | solvers |\n"
        "| --- | ---: | ---: | ---: | ---: | --- |\n"
        "| a\\|b | 1,200 | 2.0e-04 | 11 ms (10 ms to 12 ms) | 0.805 (0.8 to 0.81) | x to y |\n"
        "| c | 7 |  |  |  |  |\n\n"
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


def test_a_failing_family_does_not_stop_the_others(families, tmp_path):
    result = invoke("--quick", "--json", tmp_path / "a.json", "--figures", tmp_path / "drawn")
    assert result.exit_code == 1
    assert "**Failed**: ValueError: nothing to divide by" in result.stdout
    assert "- broken: failed, ValueError: nothing to divide by" in result.stdout
    assert "- more: 1 of 1 criteria hold" in result.stdout
    assert "- d: too slow" in result.stdout
    assert "Traceback" not in result.stdout
    assert (tmp_path / "drawn" / "fake.png").exists()
    written = Record.read(tmp_path / "a.json")
    assert [each.name for each in written.outcomes] == ["costs", "broken", "more"]
    assert written.outcomes[2].findings.tables[0].rows[0][2] == 1e-3  # what is quick is told
    again = invoke("--read", tmp_path / "a.json", "--figures", tmp_path / "again")
    assert again.exit_code == 0
    assert again.stdout == result.stdout
    assert (tmp_path / "again" / "fake.png").exists()


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
        ({"against": 0.9}, "slower", False),
    ],
)
def test_what_changed_is_found(after, what, worse):
    (comparison,) = compare(record(outcome()), record(outcome(**after)))
    (change,) = comparison.changes
    assert (change.what, change.worse) == (what, worse)
    assert (comparison.rows, comparison.alone) == (2, 0)


@pytest.mark.parametrize(
    "after", [{}, {"error": 2.1e-4}, {"error": 1e-5}, {"takes": (0.0125, 0.0105)}]
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
    assert (one.rows, one.changes, other.rows, other.changes) == (0, [], 0, [])


def test_two_files_are_compared_by_the_command(tmp_path):
    for name, gradients in (("old", 1200), ("new", 1201)):
        record(outcome(gradients=gradients)).write(tmp_path / f"{name}.json")
    result = invoke("--compare", tmp_path / "old.json", tmp_path / "new.json")
    assert result.exit_code == 1
    assert result.stdout == (
        "- WORSE  count: Costs, a|b, gradients: 1,200 -> 1,201\n"
        "costs: 2 rows in both, 0 in one; 1 counts differ, 0 errors grew, 0 slower, 0 faster, "
        "0 criteria turned; 1 worse\n"
    )
    assert invoke("--compare", tmp_path / "old.json", tmp_path / "old.json").exit_code == 0


def test_rounds_alternate_after_one_that_does_not_count():
    calls = []
    times = alternating({name: lambda name=name: calls.append(name) for name in "ab"}, 3)
    assert "".join(calls) == "ab" + 3 * "ab"
    assert {name: len(each) for name, each in times.items()} == {"a": 3, "b": 3}
    assert ratios([2.0, 6.0], [1.0, 2.0]) == [2.0, 3.0]


def test_nothing_is_drawn_of_a_family_that_failed(families, tmp_path):
    failed = Outcome("costs", "?", 0.1, None, "it broke")
    assert running.draw(families, failed, tmp_path / "none") == []
    assert not (tmp_path / "none").exists()


def test_an_effort_picks():
    assert (Effort(quick=True).pick(9, 3), Effort().pick(9, 3)) == (3, 9)
