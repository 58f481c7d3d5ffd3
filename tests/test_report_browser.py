"""The page of a run in a browser: nothing is fetched, nothing overflows, all can be read."""

import base64
import io

import numpy as np
import pytest
from chromium import CHROMIUM, Browser
from PIL import Image
from stored import STATES

from gradflow import report

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on PATH or in $CHROME")

WIDTHS, SCHEMES = (360, 1280), ("light", "dark")
# WCAG 2.2: the contrast of each text with what is behind it, the least of all, and whose it is.
CONTRAST = """(() => {
  const canvas = document.createElement("canvas").getContext("2d", {willReadFrequently: true});
  const luminance = colour => {
    canvas.clearRect(0, 0, 1, 1); canvas.fillStyle = colour; canvas.fillRect(0, 0, 1, 1);
    const [r, g, b, a] = canvas.getImageData(0, 0, 1, 1).data;
    const [x, y, z] = [r, g, b].map(v => v / 255).map(
      v => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
    return [0.2126 * x + 0.7152 * y + 0.0722 * z, a];
  };
  const behind = element => {
    for (; element; element = element.parentElement) {
      const [light, alpha] = luminance(getComputedStyle(element).backgroundColor);
      if (alpha) return light;
    }
  };
  const found = [];
  const texts = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (texts.nextNode()) {
    if (!texts.currentNode.data.trim()) continue;
    const element = texts.currentNode.parentElement;
    const [a, b] = [luminance(getComputedStyle(element).color)[0], behind(element)];
    const ratio = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
    found.push([ratio, element.tagName + ": " + texts.currentNode.data]);
  }
  return found.sort((one, other) => one[0] - other[0])[0];
})()"""
# What is wider than its frame and cannot be moved within it.
STUCK = """[...document.querySelectorAll("main *")].filter(e =>
  e.scrollWidth > e.clientWidth + 1 && e.clientWidth > 0
  && getComputedStyle(e).overflowX == "visible" && getComputedStyle(e).display != "inline"
  && !e.closest("svg") && !e.closest(".wide")
).map(e => e.outerHTML.slice(0, 80))"""


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    with Browser(tmp_path_factory.mktemp("browser")) as opened:
        yield opened


@pytest.fixture(scope="module")
def pages(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs")
    states = ("whole", "seeds", "sizes", "failed", "killed at once")
    return {name: report.write(STATES[name](folder / name)) for name in states}


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("width", WIDTHS)
def test_a_page_is_read_without_network_at_every_width_and_light(width, scheme, pages, browser):
    for name, path in pages.items():
        browser.open(path, width, scheme)
        browser.run("document.querySelectorAll('details').forEach(e => e.open = true)")
        told = [event for event in browser.events if event.get("method") in (
            "Log.entryAdded", "Runtime.consoleAPICalled", "Runtime.exceptionThrown",
        )]  # fmt: skip
        assert not told, name
        asked = [
            event["params"]["request"]["url"]
            for event in browser.events
            if event.get("method") == "Network.requestWillBeSent"
        ]
        assert asked == [path.as_uri()]
        assert browser.run("innerWidth") == width
        assert browser.run("document.documentElement.scrollWidth") <= width, name
        assert browser.run(STUCK) == [], name
        least, whose = browser.run(CONTRAST)
        assert least >= 4.5, (name, whose)


@pytest.mark.parametrize("scheme", SCHEMES)
def test_figures_are_ink_on_the_page_of_their_own_scheme(scheme, pages, browser):
    browser.open(pages["whole"], 1280, scheme)
    box = browser.run(
        "(({x, y, width, height}) => ({x, y: y + scrollY, width, height, scale: 1}))"
        "(document.querySelector('figure svg').getBoundingClientRect())"
    )
    shot = browser.ask("Page.captureScreenshot", clip=box, captureBeyondViewport=True)["data"]
    with Image.open(io.BytesIO(base64.b64decode(shot))) as image:
        grey = np.asarray(image.convert("L")) / 255
    paper = np.median(grey)
    assert paper > 0.9 if scheme == "light" else paper < 0.15
    # Axes and texts stand out as the page's own do, and most of it is paper.
    assert np.abs(grey - paper).max() > 0.75
    assert np.mean(np.abs(grey - paper) < 0.2) > 0.8
