"""The page of a run: what it says, of whatever state the run is in, and that it stands alone."""

import re
from html.parser import HTMLParser
from xml.etree import ElementTree

import pytest
from command import gradflow, listing
from stored import STATES, flow, of_seeds, save, summary

import gradflow as gf
from gradflow import report
from gradflow.plotting import LOSS, Figure, Line, Panel, render

VOID = {"meta", "br", "link", "img", "input", "hr"}


class Reader(HTMLParser):
    """Reads a page as a browser does, and finds fault where a browser would not.

    Attributes:
        elements: all of them, ``(name, attributes)``.
        text: what a reader sees, by the element that it stands in.
    """

    def __init__(self, page):
        super().__init__(convert_charrefs=True)
        self.elements, self.text, self._open = [], [], []
        self.feed(page)
        self.close()
        assert not self._open

    def handle_starttag(self, tag, attributes):
        self.elements.append((tag, dict(attributes)))
        if tag not in VOID:
            self._open.append(tag)

    def handle_endtag(self, tag):
        assert self._open.pop() == tag

    def handle_data(self, data):
        self.text.append((self._open[-1] if self._open else "", data))

    def named(self, tag):
        return [attributes for name, attributes in self.elements if name == tag]

    def seen(self):
        said = [data for tag, data in self.text if tag not in ("style", "title")]
        return " ".join(" ".join(said).split())


@pytest.fixture(scope="module")
def pages(tmp_path_factory):
    """The page of every state that a run may be in."""
    folder = tmp_path_factory.mktemp("runs")
    written = {name: report.write(make(folder / name)) for name, make in STATES.items()}
    return {name: path.read_text(encoding="utf-8") for name, path in written.items()}


@pytest.fixture(scope="module")
def read(pages):
    return {name: Reader(page) for name, page in pages.items()}


@pytest.mark.parametrize("state", STATES)
def test_a_page_stands_alone_and_is_well_formed(state, pages, read):
    page, reader = pages[state], read[state]
    assert page.startswith("<!DOCTYPE html>\n")
    assert reader.named("html") == [{"lang": "en"}]
    assert len(reader.named("h1")) == len(reader.named("main")) == 1
    assert not {name for name, _ in reader.elements} & {"script", "link", "iframe", "img", "object"}
    # Nothing that a browser would fetch: references are to the page itself.
    (style,) = [data for tag, data in reader.text if tag == "style"]
    assert not re.search(r"url\(|@import|@font-face", style)
    ids = [attributes["id"] for _, attributes in reader.elements if "id" in attributes]
    assert len(ids) == len(set(ids))
    for name, attributes in reader.elements:
        assert not any(key.startswith("on") or key in ("src", "srcset") for key in attributes), name
        for key, value in attributes.items():
            if key.endswith("href"):
                assert value.startswith("#"), value
            for target in re.findall(r"^#(.+)|url\(#?(.+?)\)", value):
                assert "".join(target) in ids, (name, key, value)
            if key == "aria-labelledby":
                assert value in ids
    assert len(re.findall(r"<svg.*?</svg>", page, re.S)) == len(reader.named("figure"))
    for svg in re.findall(r"<svg.*?</svg>", page, re.S):
        assert ElementTree.fromstring(svg).get("role") == "img"
    assert len(reader.named("table")) == len(reader.named("caption"))


@pytest.mark.parametrize(
    ("state", "told"),
    [
        ("whole", "Done : reached t1 at t = 4"),
        ("seeds", "1 of 3 seeds failed ; the others, and what was computed of these, are kept"),
        ("sizes", "1 failed ; the others are kept"),
        ("failed", f"Failed at t = 4 : {gf.RESULTS['step_underflow']}; what was computed is kept"),
        (
            "interrupted",
            "Interrupted at t = 4 ; what was computed is kept; gradflow resume goes on",
        ),
        ("killed on its way", f"Unfinished at t = 4 : {gf.RESULTS['unfinished']}; gradflow resume"),
        ("killed between seeds", "Unfinished : 2 seeds are kept; it was killed"),
        ("killed", "Unfinished : nothing was kept; it was killed, was ended by an error"),
        ("killed at once", "It has no config.yaml: it was killed before that was written."),
        ("killed at the end", "Unfinished : reached t1 at t = 4, but not all of its files are"),
        ("outdated", "No figures, for its config.yaml cannot be used any more"),
    ],
)
def test_a_page_says_how_the_run_ended(state, told, read):
    assert told in read[state].seen()


def test_the_headline_numbers_and_whatever_else_a_summary_has(read):
    seen = read["whole"].seen()
    for told in (
        "end time 4", "loss at the end 1", "gradient evaluations 2,468", "estimated error 3 × 10⁻⁵",
        "T½ 0.5", "T₁ not reached", "critical point saddle", "index 1",
        "residual of the energy identity 4.7 × 10⁻¹⁰",
        "lowest point index 2; bends 0.5, −1.5 × 10⁻⁷", "found yes", "steps accepted 14",
        "rkc2 2 4 7 1 1,234",
    ):  # fmt: skip
        assert told in seen.replace("\N{NO-BREAK SPACE}", " "), told
    # A run that was killed has no summary yet, and what its flow says of itself is told.
    seen = read["killed at the end"].seen()
    assert "gradient evaluations 2,468" in seen


def test_certified_errors_are_the_worst_with_their_time_and_share(read):
    seen = read["whole"].seen().replace("\N{NO-BREAK SPACE}", " ")
    assert "training loss loss 0.02 3 0.005" in seen  # of a range of 4
    assert "of the distance travelled error 4 × 10⁻⁵ 2 3 × 10⁻⁵" in seen
    assert "relative_error" not in seen.split("Figures")[0]


def test_claims_are_told_without_colour(read):
    seen = read["whole"].seen().replace("\N{NO-BREAK SPACE}", " ")
    assert (
        "<w_i, w_j> ≥ 0 Lemma 1 ✓ yes 100 % 0.5 to 4 smallest 8.5 × 10⁻⁵ ± 1 × 10⁻⁹ "
        "|Wᵀ a|² falls Thm 2 ✗ no 10 % 1 to 4 change −0.25 C is bounded Thm 3 – C 2 (no bound)"
    ) in seen
    assert "<w_i, w_j> ≥ 0 Lemma 1 2 of 2 100 %" in read["seeds"].seen()


def test_descents_findings_and_exponents(read):
    seen = read["whole"].seen()
    assert "0.1 reached t1 40 1.5 40 0.1 1.6 0.4" in seen
    assert "learning rate 0.1 starts above 2/η = 20" in seen
    seen = read["sizes"].seen()
    assert re.search(
        r"T1 width coupled system 2\.000 \(\S+ to \S+\) 2\.000 1 ✗ no \(Thm 3\.1\)", seen
    )
    assert "width 64, seed 1: it took max_steps" in seen


def test_what_users_wrote_is_shown_as_it_is(pages, read):
    seen = read["whole"].seen()
    assert 'A <script>alert("1")</script> & what not Gradient flow to t = 4' in seen
    assert "return 1 < 2" in seen
    assert "it is <flat>" in seen
    assert "Run gradflow solve config.yaml with" in seen
    assert "--output <here>" in seen
    assert "certify: true" in seen
    assert "<gone>" in read["outdated"].seen()
    assert "&lt;gone&gt;" in pages["outdated"]


def test_figures_are_those_of_the_run_with_their_captions(read):
    assert "Cross-entropy on the training images and on all others." in read["seeds"].seen()
    assert "accuracy along the run" in read["whole"].seen()
    counts = {
        "whole": 4,
        "seeds": 2,
        "sizes": 1,
        "killed": 0,
        "killed at the end": 2,
        "outdated": 0,
    }
    for state, count in counts.items():
        assert len(read[state].named("figure")) == count, state


def test_a_page_is_the_same_whenever_it_is_written(tmp_path, pages):
    run = of_seeds(tmp_path / "seeds")
    done = gradflow("report", run)
    assert (done.code, done.out, done.err) == (0, f"{run}/report.html\n", "")
    assert (run / "report.html").read_text(encoding="utf-8") == pages["seeds"]
    before = listing(run)
    assert report.write(run) == run / "report.html"
    assert listing(run) == before


def test_the_command_tells_what_is_wrong(tmp_path):
    done = gradflow("report", tmp_path)
    assert (done.code, done.out, done.err.count("\n")) == (2, "", 1)
    assert "is not a gradflow run" in done.err
    run = save(tmp_path / "run", {"flow": flow()}, summary=summary(flow()))
    (run / "summary.json").write_text("[")
    done = gradflow("report", run)
    assert (done.code, done.out, done.err.count("\n")) == (2, "", 1)
    assert done.err.startswith(f"{run}/summary.json is damaged: ")
    assert not (run / "report.html").exists()


def test_a_figure_as_svg_has_no_paper_no_date_and_no_font():
    figure = Figure("y", (Panel((Line("loss"),)),), "What $y$ does")
    (first,), (second,) = (render(figure, flow(), kinds=("svg",)).values() for _ in range(2))
    assert first == second
    root = ElementTree.fromstring(first)
    names = {element.tag.rpartition("}")[2] for element in root.iter()}
    assert "text" not in names
    assert "date" not in names
    assert b"#ffffff" not in first
    assert render(LOSS, flow(), kinds=("pdf",)).keys() == {"pdf"}
