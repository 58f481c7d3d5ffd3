"""Reading, checking and writing a configuration; `test_cli` holds the table of malformed ones."""

import json
import math
import pickle
from pathlib import Path
from typing import Annotated, Any, Literal

import jsonschema
import pytest
from command import CONFIGS
from malformed import GOOD, MALFORMED
from pydantic import Field, field_validator, model_validator

from gradflow import config, sweep
from gradflow._spec import Spec
from gradflow._yaml import read
from gradflow.config import Config, ConfigError, Fault, dump, fault, parse
from gradflow.flow import FlowSpec, Stop
from gradflow.save_times import Linear, SaveTimes
from gradflow.tasks import Digits


def test_the_table_is_large_and_names_each_case_once() -> None:
    assert len({case.name for case in MALFORMED}) == len(MALFORMED) >= 60


def check(model: type[Spec], folder: Path, text: str, *overrides: str) -> Any:
    path = folder / "config.yaml"
    path.write_text(text, encoding="utf-8")
    return parse(model, path, overrides)


def faults(model: type[Spec], folder: Path, text: str, *overrides: str) -> list[str]:
    """The faults, without the name of the file."""
    with pytest.raises(ConfigError) as caught:
        check(model, folder, text, *overrides)
    return [str(fault).removeprefix(f"{folder}/config.yaml:") for fault in caught.value.faults]


class Scalars(Spec):
    values: dict[str, Any]


@pytest.mark.parametrize(
    ("written", "value"),
    [
        ("1e-8", 1e-8),
        ("1E5", 1e5),
        ("+1.5e+3", 1500.0),
        (".5", 0.5),
        ("5.", 5.0),
        ("-0.0", -0.0),
        ("010", 10),
        ("-3", -3),
        ("12345678901234567890", 12345678901234567890),
        ("1:30", "1:30"),
        ("0x10", "0x10"),
        ("1_000", "1_000"),
        ("2025-01-01", "2025-01-01"),
        ("1e", "1e"),
        (".", "."),
        ("nan", "nan"),
        ("٣", "٣"),
        ("no", "no"),
        ("On", "On"),
        ("y", "y"),
        ("true", True),
        ("FALSE", False),
        ("~", None),
        ("Null", None),
        ("", None),
        ("# nothing", None),
        ("'true'", "true"),
        ("!!str 3", "3"),
        ("!!float 3", 3.0),
        ("<<", "<<"),
    ],
)
def test_scalars_resolve_as_in_yaml_1_2(written: str, value: object, tmp_path: Path) -> None:
    read = check(Scalars, tmp_path, "values: {}\n", f"values.x={written}").values["x"]
    assert (type(read), repr(read)) == (type(value), repr(value))


def test_a_good_file_with_comments_anchors_and_merge_keys(tmp_path: Path) -> None:
    text = (
        "\ufeff# A comment.\r\n"
        "problem: {kind: digits, model: logistic}  # another\n"
        "flow:\n"
        "  t1: &end 300\n"
        "  rtol: 1e-8\n"
        "  stop: {loss: -1.5E-3, gradient_norm: *end}\n"
        "  save_each:\n"
        "    loss: &often {kind: linear, count: 7}\n"
        "    accuracy: {<<: *often, count: 9}\n"
        "    test_loss: {<<: [{count: 5}, *often]}\n"
        "output: no\n"
    )
    read = check(Config, tmp_path, text)
    assert read.problem == Digits(model="logistic")
    assert read.flow.t1 == read.flow.stop.gradient_norm == 300
    assert read.flow.rtol == 1e-8
    assert read.flow.save_each == {
        "loss": Linear(count=7),
        "accuracy": Linear(count=9),
        "test_loss": Linear(count=5),
    }
    assert read.output == "no"


def test_overrides_create_replace_and_the_last_one_wins(tmp_path: Path) -> None:
    read = check(
        Config,
        tmp_path,
        "problem: {kind: cooccurrence}\nflow:\n",
        "flow.t1=3",
        "flow.t1=4",
        "flow.stop.loss=1e-8",
        "flow.save={kind: explicit, times: [0, 1]}",
        "flow.save.times=[0, 2]",
        "problem={kind: digits}",
        "problem.hidden=3",
        "output=a=b",
    )
    assert read.flow.t1 == 4
    assert read.flow.stop.loss == 1e-8
    assert read.flow.save.build(2.0).tolist() == [0, 2]
    assert read.problem == Digits(hidden=3)
    assert read.output == "a=b"


def test_an_override_mends_the_file(tmp_path: Path) -> None:
    assert check(Config, tmp_path, f"{GOOD}seed: -1\n", "seed=1").seed == 1


class Pair(Spec):
    low: float
    high: float

    @field_validator("low")
    @classmethod
    def _even(cls, low: float) -> float:
        if low % 2:
            raise ValueError("low must be even;\nallowed: 0, 2, 4, ...")
        return low

    @model_validator(mode="after")
    def _ordered(self) -> "Pair":
        if self.low >= self.high:
            raise ValueError(f"low = {self.low:g} must lie below high = {self.high:g}")
        return self


class Odd(Spec):
    """What pydantic can say and our own specs do not (yet)."""

    pair: Pair | None = None
    auto: float | Literal["auto"] | None = None
    size: Annotated[int, Field(ge=0)] | list[int] = 0
    point: tuple[int, float] = (0, 0.0)
    rates: tuple[float, ...] = ()
    save: SaveTimes | list[float] | None = None
    by_task: dict[Literal["digits", "words"], int] = Field(default_factory=dict)
    name: Annotated[str, Field(min_length=2)] = "me"
    inner: list[Pair] = Field(default_factory=list)
    sixes: Annotated[int, Field(ge=6, multiple_of=6)] = 6


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("pair:\n  low: 2\n  high: 1\n", ["1:1: pair: low = 2 must lie below high = 1"]),
        ("pair: {low: 1, high: 3}", ["1:13: pair.low: low must be even; allowed: 0, 2, 4, ..."]),
        (
            "inner:\n- {low: 0, high: 1}\n- {low: 2, high: 1}\n- 3\n",
            [
                "3:3: inner.1: low = 2 must lie below high = 1",
                "4:3: inner.2: got 3; allowed: a mapping with the keys low, high",
            ],
        ),
        (
            "auto: atuo",
            [
                "1:7: auto: got the text 'atuo'; did you mean 'auto'? "
                "allowed: a finite number, or auto, or null"
            ],
        ),
        (
            "size: -1",
            [
                "1:7: size: got -1; "
                "allowed: a whole number of at least 0, or a list, each a whole number"
            ],
        ),
        ("size: [1, x]", ["1:11: size.1: got the text 'x'; allowed: a whole number"]),
        (
            "point: [1]",
            ["1:8: point: got the list [1]; allowed: a list of exactly 2 items"],
        ),
        ("point: [1, x]", ["1:12: point.1: got the text 'x'; allowed: a finite number"]),
        ("save: {kind: linear, count: 1}", ["1:29: save.count: got 1; allowed: a whole number"]),
        ("save: [1, x]", ["1:11: save.1: got the text 'x'; allowed: a finite number"]),
        ("save: {kind: liner}", ['1:7: save: got the mapping {"kind": "liner"}; allowed: a map']),
        (
            "by_task: {digit: 1, words: x}",
            [
                "1:11: by_task.digit: got the text 'digit'; did you mean 'digits'? allowed: digits",
                "1:28: by_task.words: got the text 'x'; allowed: a whole number",
            ],
        ),
        (
            "sixes: 7",
            ["1:8: sixes: got 7; allowed: a whole number of at least 6 and a multiple of 6"],
        ),
        ("name: a", ["1:7: name: got the text 'a'; allowed: text of 2 or more characters"]),
    ],
)
def test_every_kind_of_pydantic_error(text: str, expected: list[str], tmp_path: Path) -> None:
    told = faults(Odd, tmp_path, text)
    assert len(told) == len(expected), told
    for line, begin in zip(told, expected, strict=True):
        assert line.startswith(begin)


def test_a_list_may_fill_a_tuple(tmp_path: Path) -> None:
    read = check(Odd, tmp_path, "point: [1, 2]\nrates: [1e-3]\nsave: {kind: linear}")
    assert (read.point, read.rates, read.save) == ((1, 2.0), (1e-3,), Linear())


def test_a_tag_that_is_also_a_key(tmp_path: Path) -> None:
    text = "problem: {kind: digits, digits: {model: 3}, hidden: 0}\nflow: {t1: 1}"
    unknown, hidden = faults(Config, tmp_path, text)
    assert unknown.startswith("1:25: problem.digits: unknown key 'digits'; allowed: kind, model")
    assert hidden.startswith("1:53: problem.hidden: got 0")


def test_a_file_that_may_not_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(path: Path) -> bytes:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(Path, "read_bytes", refuse)
    (told,) = faults(Config, tmp_path, GOOD)
    assert told == "1:1: cannot be read, permission denied; allowed: a YAML file"


def test_faults_are_sorted_values_and_errors_survive_pickling() -> None:
    late, early = Fault("b", 1, 1, "", "m; n"), Fault("a", 10, 2, "x.y", "m; n")
    error = ConfigError([late, early, late])
    assert error.faults == (early, late)
    assert str(error) == "a:10:2: x.y: m; n\nb:1:1: m; n"
    assert pickle.loads(pickle.dumps(error)).faults == error.faults


def test_dump_reads_back_as_the_same(tmp_path: Path) -> None:
    written = Config(
        problem=Digits(),
        flow=FlowSpec(
            t1=1e16,
            rtol=1e-8,
            save_each={"accuracy": Linear()},
            stop=Stop(loss=-math.pi * 1e-300),
        ),
        output=" 1e5\t'\"# ",
    )
    text = dump(written)
    assert "start: null" in text  # the default of the default
    assert check(Config, tmp_path, text) == written
    assert dump(check(Config, tmp_path, text)) == text
    for word in ("1e-8", ".5", "5.", "no", "~", "1:30", "-.inf", "!x", "&a", "  ", "- a", "a\n\nb"):
        again = check(Config, tmp_path, dump(written.model_copy(update={"output": word})))
        assert again.output == word
    odd = Scalars(values=dict.fromkeys(("1e-8", "true", "a: b", "", "<<", "é\u2028\x85\n"), 1))
    assert check(Scalars, tmp_path, dump(odd)) == odd


def test_dump_writes_lists_of_numbers_on_one_line() -> None:
    assert "rates: [1.0e-08, 2.0]" in dump(Odd(rates=(1e-8, 2.0))).splitlines()


def test_the_schema_describes_every_key_and_what_may_be_left_out() -> None:
    schema = json.loads(json.dumps(sweep.schema()))
    assert schema["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    assert schema["title"] == "gradflow configuration"
    assert list(schema["properties"]) == list(Config.model_fields)
    jsonschema.Draft202012Validator.check_schema(schema)
    for part in (schema, *(part for part in schema["$defs"].values() if "properties" in part)):
        assert part["description"]
        assert "Attributes" not in part["description"]
        assert ">>>" not in part["description"]
        for name, field in part["properties"].items():
            assert field["description"]
            assert ("default" in field) >= (name not in part.get("required", ()))


def test_the_schema_holds_for_the_shipped_configurations_and_for_no_faulty_one() -> None:
    validator = jsonschema.Draft202012Validator(sweep.schema())

    def marked(*overrides: str) -> list[str]:
        """Where an editor marks the quickstart, changed so."""
        root, _ = read(CONFIGS / "quickstart.yaml", overrides)
        assert root is not None
        return [".".join(map(str, at.absolute_path)) for at in validator.iter_errors(root.plain())]

    for path in CONFIGS.glob("*.yaml"):
        root, _ = read(path)
        assert root is not None
        validator.validate(root.plain())
    assert marked() == []
    assert marked("flow.solver=euler") == ["flow.solver"]
    assert marked("flow.rtol=2") == ["flow.rtol"]
    assert marked("flow.stop.los=0.1") == ["flow.stop"]
    assert marked("problem.kind=sentences") == ["problem"]
    assert marked("flow.save={times: [1.0]}") == ["flow.save"]  # without its kind


def test_load_reads_the_configuration(tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    path.write_text(GOOD)
    found = config.load(path, ["seed=3", "precision=float32"])
    assert isinstance(found, Config)
    assert (found.seed, found.precision, found.flow.t1) == (3, "float32", 1.0)
    path.write_text(dump(found))
    assert config.load(str(path)) == found


def test_a_fault_of_a_valid_value_is_told_where_it_stands(tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    path.write_text(f"# A comment.\n{GOOD}output: here\n")
    assert str(fault(path, (), "output", "it exists")) == f"{path}:6:9: output: it exists"
    assert str(fault(path, ("output=there",), "output", "m")) == "override-1:1:8: output: m"
    path.write_text(f"# A comment.\n{GOOD}")
    assert str(fault(path, (), "output", "m")) == f"{path}:2:1: output: m"
    path.unlink()
    assert str(fault(path, (), "output", "m")) == f"{path}:1:1: output: m"


def test_parts_that_do_not_fit_together_are_told_in_python_too() -> None:
    with pytest.raises(
        ValueError, match=r"flow\.rtol: rtol = 1e-09 is below .* precision: float64"
    ):
        Config(problem=Digits(), flow=FlowSpec(t1=1.0, rtol=1e-9), precision="float32")
