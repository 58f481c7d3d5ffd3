"""Malformed configurations, each with the faults that must be told and no other."""

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Malformed:
    """A configuration that must be refused, and the faults that must be told.

    Attributes:
        text: what the file holds; None if there is no file, a slash if it is a directory.
        overrides: the ``key.path=value`` arguments.
        expected: for each fault, in order, how its line begins and what else it says. FILE
            stands for the path of the file.
    """

    name: str
    text: str | bytes | None
    expected: tuple[tuple[str, str], ...]
    overrides: tuple[str, ...] = ()

    def write(self, folder: Path) -> Path:
        """Put the file into `folder`, and say where it is."""
        path = folder / "config.yaml"
        if self.text == "/":
            path.mkdir()
        elif isinstance(self.text, str):
            path.write_text(self.text, encoding="utf-8")
        elif self.text is not None:
            path.write_bytes(self.text)
        return path


GOOD = "problem:\n  kind: cooccurrence\nflow:\n  t1: 1.0\n"


def one(name: str, text: str | bytes | None, prefix: str, fragment: str) -> Malformed:
    """A file with one fault."""
    return Malformed(name, text, ((prefix, fragment),))


def flow(name: str, line: str, prefix: str, fragment: str) -> Malformed:
    """One fault under ``flow``; `line` is line 5 of the file, indented by 2."""
    return one(name, f"{GOOD}  {line}\n", f"FILE:5:{prefix}", fragment)


def top(name: str, line: str, prefix: str, fragment: str) -> Malformed:
    """One fault at the top level; `line` is line 5 of the file."""
    return one(name, f"{GOOD}{line}\n", f"FILE:5:{prefix}", fragment)


def task(name: str, line: str, prefix: str, fragment: str) -> Malformed:
    """One fault in the task; `line` is line 3 of the file, indented by 2."""
    text = f"problem:\n  kind: cooccurrence\n  {line}\nflow: {{t1: 1}}\n"
    return one(name, text, f"FILE:3:{prefix}", fragment)


def override(name: str, argument: str, prefix: str, fragment: str) -> Malformed:
    """One fault, in an override of a good file."""
    return Malformed(name, GOOD, ((f"override-1:1:{prefix}", fragment),), (argument,))


MALFORMED = [
    # The file.
    one("no file", None, "FILE:1:1: ", "cannot be read, no such file"),
    one("directory", "/", "FILE:1:1: ", "cannot be read, is a directory"),
    one("empty", "", "FILE:1:1: ", "an empty file; allowed: a mapping"),
    one("comments only", "# nothing\n\n", "FILE:1:1: ", "an empty file"),
    one("document start only", "---\n", "FILE:2:1: ", "an empty file"),
    one("binary", b"\x89PNG\r\n\x1a\n\0\0", "FILE:1:1: ", "not text in UTF-8"),
    one("latin-1", b"problem: 1\noutput: caf\xe9\n", "FILE:2:12: ", "not text in UTF-8"),
    one("utf-16", GOOD.encode("utf-16"), "FILE:1:1: ", "not text in UTF-8"),
    one("null byte", f"{GOOD}output: a\0b\n", "FILE:5:10: ", "unprintable character (U+0000)"),
    one("list at the top", "- problem\n", "FILE:1:1: ", "no 'key: value' at the top"),
    one("text at the top", "# a\nproblem\n", "FILE:2:1: ", "no 'key: value' at the top"),
    one("tagged top", "!!set {a}\n", "FILE:1:1: ", "the tag '!!set'"),
    one("two documents", f"{GOOD}---\nseed: 1\n", "FILE:5:1: ", "a second document; allowed: one"),
    # YAML's syntax.
    one("tab", "problem:\n\tkind: digits\n", "FILE:2:1: ", "a tab; allowed: spaces"),
    one("tab after spaces", f"{GOOD}  \trtol: 1\n", "FILE:5:3: ", "a tab; allowed: spaces"),
    one("tab before value", f"{GOOD}seed:\t1\n", "FILE:5:6: ", "a tab; allowed: spaces"),
    one("colon in text", f"{GOOD}output: a: b\n", "FILE:5:10: ", "a ':' cannot stand here"),
    one("no colon", f"{GOOD}seed\noutput: a\n", "FILE:5:1: ", "a key without its ':'"),
    one("indentation", f"{GOOD} seed: 1\n", "FILE:5:2: ", "does not fit what stands above"),
    one("open bracket", "flow: {t1: 1\nseed: 1\n", "FILE:1:7: ", "a bracket is not closed"),
    one("open quote", "output: 'runs\nseed: 1\n", "FILE:1:9: ", "a quote is not closed"),
    one("at sign", f"{GOOD}output: @here\n", "FILE:5:9: ", "quotes around it"),
    one("no anchor", f"{GOOD}seed: *here\n", "FILE:5:7: ", "an alias without its anchor"),
    one("bad escape", f'{GOOD}output: "\\q"\n', "FILE:5:11: ", "allowed: valid YAML"),
    one("too deep", f"seed: {'[' * 3000}", "FILE:1:1: ", "nested too deeply"),
    one(
        "billion laughs",
        "a: &a [1,1,1,1,1,1,1,1,1,1]\nb: &b [*a,*a,*a,*a,*a,*a,*a,*a,*a,*a]\n"
        "c: &c [*b,*b,*b,*b,*b,*b,*b,*b,*b,*b]\nd: &d [*c,*c,*c,*c,*c,*c,*c,*c,*c,*c]\n"
        "e: [*d,*d,*d,*d,*d,*d,*d,*d,*d,*d]\n",
        "FILE:",
        "too many values; allowed: 100000",
    ),
    # Keys twice, keys that are no text, tags, anchors.
    top("duplicate", "problem: 3", "1: problem: ", "stands here and at line 1, column 1"),
    flow("inner duplicate", "t1: 2", "3: flow.t1: ", "stands here and at line 4, column 3"),
    top("number for key", "3: 4", "1: ", "the key '3' is not text"),
    flow("boolean for key", "true: 4", "3: flow: ", "the key 'true' is not text"),
    top("list for key", "? [a]\n: 3", "3: ", "the key of this mapping is not text"),
    top("null for key", "~: 3", "1: ", "the key '~' is not text"),
    top("own tag", "seed: !secret 3", "7: seed: ", "the tag '!secret'"),
    top("python tag", "seed: !!python/name:os.x", "7: seed: ", "the tag '!!python/name:os.x'"),
    top("wrong tag value", "seed: !!int abc", "7: seed: ", "cannot read 'abc'"),
    top("half a character", r'output: "\ud800"', r"9: output: ", r"cannot read '\ud800'"),
    top("endless number", f"seed: {'9' * 5000}", "7: seed: ", "cannot read '9999"),
    top("recursive", "output: &a [*a]", "9: output.0: ", "an anchor that holds itself"),
    flow("recursive merge", "stop: &a {<<: *a}", "9: flow.stop.<<: ", "an anchor that holds its"),
    flow("merge of a number", "<<: 3", "7: flow.<<: ", "nothing to merge; allowed: a mapping"),
    # Unknown and missing keys.
    top("unknown key", "sed: 1", "1: sed: ", "unknown key 'sed'; did you mean 'seed'? allowed: "),
    top("unlike any key", "xyz: 1", "1: xyz: ", "unknown key 'xyz'; allowed: problem, flow, seed"),
    top("empty key", '"": 1', "1: '': ", "unknown key ''; allowed: problem"),
    top("odd key", '"a\\nb": 1', r"1: 'a\nb': ", r"unknown key 'a\nb'; allowed: problem"),
    flow("unknown in flow", "rtoll: 1", "3: flow.rtoll: ", "did you mean 'rtol'? allowed: t1, "),
    task(
        "unknown in task", "widht: 1", "3: problem.widht: ", "did you mean 'width'? allowed: kind"
    ),
    task("of another task", "hidden: 1", "3: problem.hidden: ", "unknown key 'hidden'; allowed: "),
    flow("in stop", "stop: {los: 1}", "10: flow.stop.los: ", "did you mean 'loss'? allowed: grad"),
    flow(
        "in save",
        "save: {kind: linear, start: 1}",
        "24: flow.save.start: ",
        "unknown key 'start'; allowed: kind, count",
    ),
    flow(
        "in save_each",
        "save_each: {mu: {kind: linear, cuont: 9}}",
        "34: flow.save_each.mu.cuont: ",
        "did you mean 'count'? allowed: kind, count",
    ),
    one("no problem", "flow: {t1: 1}\n", "FILE:1:1: problem: ", "missing key 'problem'; allowed: "),
    one("no t1", "problem:\n  kind: digits\nflow: {}\n", "FILE:3:7: flow.t1: ", "missing key 't1'"),
    one(
        "no t1 in a block",
        "problem:\n  kind: digits\nflow:\n  # soon\n  rtol: 1e-3\n",
        "FILE:3:1: flow.t1: ",
        "missing key 't1'; allowed: a finite number above 0",
    ),
    flow("no times", "save: {kind: explicit}", "9: flow.save.times: ", "missing key 'times'"),
    flow(
        "no kind",
        "save: {count: 3}",
        "9: flow.save.kind: ",
        "missing key 'kind'; allowed: explicit, linear, logarithmic",
    ),
    one("no task", "problem: {}\nflow: {t1: 1}", "FILE:1:10: problem.kind: ", "cooccurrence"),
    # Tags of unions.
    flow(
        "wrong kind",
        "save: {kind: liner}",
        "16: flow.save.kind: ",
        "got the text 'liner'; did you mean 'linear'? allowed: explicit, linear, logarithmic",
    ),
    flow("number for kind", "save: {kind: 3}", "16: flow.save.kind: ", "got 3; allowed: explicit"),
    flow(
        "null for kind", "save: {kind: }", "15: flow.save.kind: ", "got nothing; allowed: explicit"
    ),
    one(
        "wrong task",
        "problem:\n  kind: coocurrence\nflow: {t1: 1}\n",
        "FILE:2:9: problem.kind: ",
        "did you mean 'cooccurrence'? allowed: ",
    ),
    # Values of the wrong type.
    flow("quoted number", 'rtol: "1e-8"', "9: flow.rtol: ", "got the text '1e-8'; allowed: a fin"),
    flow("grouped number", "max_steps: 1_000", "14: flow.max_steps: ", "got the text '1_000'"),
    flow("text for number", "rtol: tight", "9: flow.rtol: ", "above 0 and below 1"),
    flow("boolean for number", "rtol: true", "9: flow.rtol: ", "got true; allowed: a finite num"),
    flow("null for number", "rtol: ~", "9: flow.rtol: ", "got ~; allowed: a finite number"),
    flow("list for number", "rtol: [1, 2]", "9: flow.rtol: ", "got the list [1, 2]; allowed: a fi"),
    flow("mapping for number", "rtol:\n    a: 1", "3: flow.rtol: ", 'got the mapping {"a": 1}; al'),
    task("boolean for integer", "width: true", "10: problem.width: ", "got true; allowed: a whole"),
    task("fraction for integer", "width: 2.5", "10: problem.width: ", "got 2.5; allowed: a whole"),
    task("float for integer", "width: 2.0", "10: problem.width: ", "got 2.0; allowed: a whole"),
    task(
        "integer for boolean", "unique_words: 1", "17: problem.unique_words: ", "got 1; allowed: "
    ),
    top("text for boolean", "figures: no", "10: figures: ", "got the text 'no'; allowed: true, fa"),
    top("number for text", "output: 3", "9: output: ", "got 3; allowed: text, or null"),
    top("no path", 'output: ""', "9: output: ", "got the text ''; allowed: a path, or null"),
    top(
        "null in a path", 'output: "a\\0b"', "9: output: ", r"got the text 'a\x00b'; allowed: a pa"
    ),
    top("list for choice", "precision: []", "12: precision: ", "got the list []; allowed: float64"),
    top("text for integer", "seed: zero", "7: seed: ", "got the text 'zero'; allowed: a whole"),
    top("time for integer", "seed: 1:30", "7: seed: ", "got the text '1:30'"),
    top("date for integer", "seed: 2025-01-01", "7: seed: ", "got the text '2025-01-01'"),
    top("hexadecimal", "seed: 0x10", "7: seed: ", "got the text '0x10'"),
    one("number for task", "problem: 3\nflow: {t1: 1}", "FILE:1:10: problem: ", "got 3; allowed: "),
    one(
        "null for flow", "problem: {kind: digits}\nflow:\n", "FILE:2:6: flow: ", "got nothing; all"
    ),
    one(
        "list for flow",
        "problem: {kind: digits}\nflow:\n- t1: 1\n",
        "FILE:2:1: flow: ",
        'got the list [{"t1": 1}]; allowed: a mapping with the keys t1, rtol',
    ),
    flow(
        "list for mapping", "save_each: []", "14: flow.save_each: ", "got the list []; allowed: a "
    ),
    flow("number for times", "save: {kind: explicit, times: 3}", "33: flow.save.times: ", "a list"),
    flow(
        "text among times",
        "save: {kind: explicit, times: [0, x]}",
        "37: flow.save.times.1: ",
        "got the text 'x'; allowed: a finite number",
    ),
    top(
        "long text", f"precision: {'x' * 99}", "12: precision: ", f"got the text '{'x' * 39}…'; al"
    ),
    # Values out of range.
    task(
        "negative width", "width: -1", "10: problem.width: ", "got -1; allowed: a whole number of"
    ),
    task("too wide", "width: 3e9", "10: problem.width: ", "got 3e9; allowed: a whole number of"),
    task("few samples", "samples: 5", "12: problem.samples: ", "at least 6"),
    top("negative seed", "seed: -1", "7: seed: ", "got -1; allowed: a whole number of at least 0"),
    flow("zero tolerance", "rtol: 0", "9: flow.rtol: ", "got 0; allowed: a finite number above 0"),
    flow("nan", "rtol: .nan", "9: flow.rtol: ", "got .nan; allowed: a finite number"),
    flow("infinity", "stop: {loss: -.inf}", "16: flow.stop.loss: ", "got -.inf; allowed: a finite"),
    flow("overflow", "stop: {loss: 1e999}", "16: flow.stop.loss: ", "got 1e999; allowed: a finite"),
    flow("long integer", f"rtol: 1{'0' * 400}", "9: flow.rtol: ", "got 10000"),
    flow(
        "wrong choice", "solver: Tsit", "11: flow.solver: ", "got the text 'Tsit'; did you mean 'ts"
    ),
    top(
        "wrong case", "precision: FLOAT32", "12: precision: ", "did you mean 'float32'? allowed: fl"
    ),
    task(
        "wrong initialisation",
        "initialisation: kaiming_normal",
        "19: problem.initialisation: ",
        "did you mean 'kaiming-normal'? allowed: kaiming-uniform, kaiming-normal, theory",
    ),
    flow(
        "no times at all", "save: {kind: explicit, times: []}", "33: flow.save.times: ", "1 or more"
    ),
    flow(
        "times not ascending",
        "save: {kind: explicit, times: [0, 2, 1]}",
        "33: flow.save.times: ",
        "save times must be ascending",
    ),
    # Parts that do not fit together.
    flow(
        "too tight", "rtol: 1e-15", "9: flow.rtol: ", "the least that float64 parameters can hold"
    ),
    Malformed(
        "too tight for float32 and nothing to save",
        f"{GOOD}  save_each: {{los: {{kind: linear}}}}\nprecision: float32\n",
        (
            ("FILE:5:20: flow.save_each.los: ", "no observable 'los'; did you mean 'loss'? allo"),
            ("override-1:1:11: flow.rtol: ", "the least that float32 parameters can hold; raise"),
        ),
        ("flow.rtol=1e-7",),
    ),
    flow(
        "of another task's", "save_each: {accuracy: {kind: linear}}", "25: flow.save_each.acc", "no"
    ),
    one(
        "start after the end",
        f"{GOOD}  save: {{kind: logarithmic, start: 3}}\n",
        "FILE:3:1: flow: ",
        "start = 3 must lie before t1 = 1",
    ),
    one(
        "save after the end",
        f"{GOOD}  save: {{kind: explicit, times: [0, 2]}}\n",
        "FILE:3:1: flow: ",
        "the save time 2 lies after t1 = 1",
    ),
    one(
        "too few words",
        "problem: {kind: cooccurrence, unique_words: true}\nflow: {t1: 1}\n",
        "FILE:1:10: problem: ",
        "set vocabulary to at least 163",
    ),
    # Overrides.
    override(
        "unknown key of an alternative",
        "polish={max_step: 3}",
        "9: polish.max_step: ",
        "unknown key 'max_step'; did you mean 'max_steps'?",
    ),
    override("no equals sign", "flow.t1", "1: ", "no '=' in 'flow.t1'; allowed: key.path=value"),
    override("empty override", "", "1: ", "no '=' in ''"),
    override("no key", "=1", "1: ", "an empty or unprintable key in '=1'"),
    override("empty part", "flow..t1=1", "6: ", "an empty or unprintable key in 'flow..t1=1'"),
    override("empty last part", "flow.=1", "6: ", "an empty or unprintable key"),
    override("unprintable part", "a\nb=1", "1: ", r"unprintable key in 'a\nb=1'"),
    override("through a number", "flow.t1.x=1", "6: flow.t1: ", "a single value has no key 'x'"),
    override("unknown override", "flow.rtoll=1", "6: flow.rtoll: ", "did you mean 'rtol'? allowed"),
    override("unknown and deep", "flw.t1=1", "1: flw: ", "unknown key 'flw'; did you mean 'flow'?"),
    override("override of type", "flow.rtol=tight", "11: flow.rtol: ", "got the text 'tight'; all"),
    override("override with null", "flow.t1=", "6: flow.t1: ", "got nothing; allowed: a finite"),
    override(
        "override of kind", "problem.kind=digit", "14: problem.kind: ", "did you mean 'digits'"
    ),
    override("override syntax", "flow.t1=[1", "9: flow.t1: ", "a bracket is not closed"),
    override("override tab", "flow.t1=\t1", "9: flow.t1: ", "a tab; allowed: spaces"),
    override("override tag", "flow.t1=!x 1", "9: flow.t1: ", "the tag '!x'"),
    override(
        "override inside", "flow.stop={los: 1}", "12: flow.stop.los: ", "did you mean 'loss'?"
    ),
    # Fields and descents.
    override("field", "flow.field=newton", "12: flow.field: ", "allowed: gradient, or a mapping"),
    override(
        "field without a rate",
        "flow.field={kind: modified}",
        "12: flow.field.learning_rate: ",
        "missing key 'learning_rate'",
    ),
    override(
        "field's momentum",
        "flow.field={kind: nesterov, learning_rate: 0.1, momentum: 1}",
        "59: flow.field.momentum: ",
        "got 1; allowed: a finite number of at least 0 and below 1",
    ),
    top(
        "polish by number", "polish: 3", "9: polish: ", "got 3; allowed: true, false, or a mapping"
    ),
    top("polish method", "polish: {method: lbfgs}", "18: polish.method: ", "did you mean 'bfgs'?"),
    top("polish target", "polish: {gradient_norm: 0}", "25: polish.gradient_norm: ", "above 0"),
    Malformed(
        "polish of seeds",
        GOOD,
        (("override-2:1:8: polish: ", "there are 3 seeds; allowed: false, or seeds: 1"),),
        ("seeds=3", "polish=true"),
    ),
    Malformed(
        "polish of a study",
        GOOD,
        (("override-2:1:8: polish: ", "there is a scaling study; allowed: false"),),
        ("scaling={vary: {width: [8, 16]}}", "polish=true"),
    ),
    Malformed(
        "polish of momentum",
        GOOD,
        (("override-2:1:8: polish: ", "flow.field is nesterov; allowed: false, or"),),
        ("flow.field={kind: nesterov, learning_rate: 0.1, momentum: 0.9}", "polish=true"),
    ),
    override(
        "an unknown size",
        "scaling={vary: {widht: [8, 16]}}",
        "24: scaling.vary.widht: ",
        "no size 'widht'; did you mean 'width'? allowed: width, neurons, length, samples",
    ),
    override(
        "a size that the problem cannot have",
        "scaling={vary: {samples: [12, 20]}}",
        "26: scaling.vary.samples: ",
        "samples = 20: input should be a multiple of 6",
    ),
    override(
        "a size twice",
        "scaling={vary: {width: [8, 16, 8]}}",
        "16: scaling.vary: ",
        "width has the value 8 twice; allowed: each once",
    ),
    override(
        "one size alone",
        "scaling={vary: {width: [8]}}",
        "24: scaling.vary.width: ",
        "allowed: a list of 2 or more",
    ),
    Malformed(
        "descents beside a study",
        GOOD,
        (("override-2:1:9: descent: ", "there is a scaling study; allowed: null"),),
        ("scaling={vary: {width: [8, 16]}}", "descent={learning_rates: [0.1]}"),
    ),
    Malformed(
        "a study of a problem that measures nothing",
        "problem: {kind: digits}\nflow: {t1: 1}\nscaling: {vary: {samples: [10, 20]}}\n",
        (("FILE:3:10: scaling: ", "a problem of kind cooccurrence or coupled"),),
    ),
    override("no rates", "descent={}", "9: descent.learning_rates: ", "missing key"),
    override(
        "a rate of zero",
        "descent={learning_rates: [0.1, 0]}",
        "32: descent.learning_rates.1: ",
        "got 0; allowed: a finite number above 0",
    ),
    override(
        "a rate twice",
        "descent={learning_rates: [0.1, 0.2, 0.1]}",
        "26: descent.learning_rates: ",
        "the learning rate 0.1 is there twice",
    ),
    override(
        "a rate above t1",
        "descent={learning_rates: [0.1, 2]}",
        "26: descent.learning_rates: ",
        "the learning rate 2 is larger than flow.t1 = 1",
    ),
    override(
        "optimiser",
        "descent={learning_rates: [0.1], optimiser: sdg}",
        "44: descent.optimiser: ",
        "got the text 'sdg'; did you mean 'sgd'? allowed: an optimiser of optax",
    ),
    override(
        "option of an optimiser",
        "descent={learning_rates: [0.1], options: {momentun: 0.9}}",
        "9: descent: ",
        "sgd has no option 'momentun'; did you mean 'momentum'?",
    ),
    override(
        "modified flow of adam",
        "descent={learning_rates: [0.1], optimiser: adam, modified: true}",
        "9: descent: ",
        "no modified flow is known of these descents; allowed: true for the full batch",
    ),
    override("half of a union", "flow.save.count=9", "6: flow.save.kind: ", "missing key 'kind'"),
    Malformed(
        "through a list",
        f"{GOOD}  save: {{kind: explicit, times: [0, 1]}}\n",
        (
            (
                "override-1:1:11: flow.save.times: ",
                "a list has no key '0'; allowed: flow.save.times=",
            ),
        ),
        ("flow.save.times.0=1",),
    ),
    # Several faults at once.
    Malformed(
        "many",
        "problem: {kind: digits, width: 3, model: MPL}\n"
        "flow:\n"
        "  rtol: 2\n"
        "  save: {kind: explicit, times: [1, x, .inf]}\n"
        "  rtol: 3\n"
        "seed: !x 3\n"
        "precison: float32\n",
        (
            ("FILE:1:25: problem.width: ", "unknown key 'width'; allowed: kind, "),
            ("FILE:1:42: problem.model: ", "did you mean 'mlp'? allowed: logistic, mlp"),
            ("FILE:2:1: flow.t1: ", "missing key 't1'"),
            ("FILE:3:9: flow.rtol: ", "got 2; allowed: "),
            ("FILE:4:37: flow.save.times.1: ", "got the text 'x'"),
            ("FILE:4:40: flow.save.times.2: ", "got .inf"),
            ("FILE:5:3: flow.rtol: ", "stands here and at line 3, column 3"),
            ("FILE:6:7: seed: ", "the tag '!x'"),
            ("FILE:7:1: precison: ", "did you mean 'precision'?"),
        ),
    ),
    Malformed(
        "file and overrides",
        f"{GOOD}seed: -1\n",
        (
            ("FILE:5:7: seed: ", "got -1"),
            ("override-1:1:1: ", "no '='"),
            ("override-3:1:11: flow.rtol: ", "got -3"),
            ("override-4:1:4: ", "an empty or unprintable key"),
        ),
        ("oops", "flow.t1=3", "flow.rtol=-3", "ab..=1"),
    ),
    Malformed(
        "overrides without a file",
        None,
        (("FILE:1:1: ", "no such file"), ("override-2:1:1: ", "no '='")),
        ("flow.t1=3", "oops"),
    ),
    Malformed(
        "merged keys",
        "problem: {kind: digits}\n"
        "flow:\n"
        "  t1: 1\n"
        "  save_each:\n"
        "    a: &a {kind: linear, count: 1, extra: 1}\n"
        "    b: {<<: *a, count: 5}\n",
        (
            ("FILE:5:33: flow.save_each.a.count: ", "got 1; allowed: a whole number of at least 2"),
            ("FILE:5:36: flow.save_each.a.extra: ", "unknown key 'extra'"),
            ("FILE:5:36: flow.save_each.b.extra: ", "unknown key 'extra'"),
        ),
    ),
]
