"""The README's Python runs as it stands."""

import math
import re
from pathlib import Path

README = Path(__file__).parent.parent / "README.md"


def test_the_examples_run(capsys):
    blocks = re.findall(r"```python\n(.*?)```", README.read_text(), re.DOTALL)
    assert len(blocks) == 5
    names = {}
    for block in blocks:
        # The examples promote as a user's session would.
        exec(
            block.replace(
                "import gradflow",
                "jax.config.update('jax_numpy_dtype_promotion', 'standard')\nimport gradflow",
            ),
            names,
        )
    assert (names["compared"]["modified_drift"][-1] < names["compared"]["drift"][-1]).all()
    assert names["flow"].result in capsys.readouterr().out
    assert names["ensemble"]["loss"].shape == (200, 20)
    assert abs(names["solution"].ys[-1] - math.cos(1.0)).max() < 1e-3


def test_what_it_links_to_exists():
    for target in re.findall(r"\]\(([^)#:]+)\)", README.read_text()):
        assert (README.parent / target).exists(), target
