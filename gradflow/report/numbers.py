"""Numbers, names and formulas as a page writes them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import numpy as np

_SUPERSCRIPTS = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")
# What the keys of a summary are called where their own words are not enough.
_NAMES = {
    "accepted": "steps accepted", "rejected": "steps rejected", "wall_seconds": "seconds",
    "compile_seconds": "seconds compiling", "energy_identity": "residual of the energy identity",
    "certification_evaluations": "gradients to certify it",
    "observable_evaluations": "gradients of the observables",
    "balancedness": "drift of the balances", "T_half": "T½", "t_infinity": "t∞",
    "begun": "seeds begun", "whole": "seeds that came to their end",
}  # fmt: skip


def name(key: str) -> str:
    """A key in words.

    >>> from gradflow.report.numbers import name
    >>> name("gradient_evaluations"), name("T1"), name("accepted")
    ('gradient evaluations', 'T₁', 'steps accepted')
    """
    if key in _NAMES:
        return _NAMES[key]
    if numbered := re.fullmatch(r"T(\d+)", key):
        return "T" + "".join(chr(ord("₀") + int(digit)) for digit in numbered[1])
    return key.replace("_", " ")


def number(value: float | None, digits: int = 4) -> str:
    """A number to so many significant digits, whole ones in full; a dash for none.

    >>> from gradflow.report.numbers import number
    >>> number(3e4), number(4.684e-10), number(-0.25), number(None)
    ('30,000', '4.684\\xa0×\\xa010⁻¹⁰', '−0.25', '–')
    """
    if value is None or not np.isfinite(value):
        return "–"
    if isinstance(value, int):
        return f"{value:,}".replace("-", "−")
    rounded = f"{value:.{digits}g}"
    if value == float(rounded) == round(value) and abs(value) < 1e6:
        return number(round(value))
    rounded, _, power = rounded.partition("e")
    written = rounded.replace("-", "−")
    return written + (_power(power) if power else "")


def _power(exponent: str) -> str:
    return f"\N{NO-BREAK SPACE}×\N{NO-BREAK SPACE}10{str(int(exponent)).translate(_SUPERSCRIPTS)}"


_SIGNS = {
    r"\$|\\(?=top)": "", r"\^(T|top)\b": "ᵀ", r"\^2": "²", r"\+-": "±", "<=": "≤", ">=": "≥",
    r"(?<=\s)-(?=\s)|(?<!\w)-(?=[\w(])": "−", r"\beta\b": "η",
}  # fmt: skip


def typeset(line: str) -> str:
    """A line made for a terminal, or a label with a little TeX, in the signs that a page has.

    >>> from gradflow.report.numbers import typeset
    >>> typeset("|W^T a|^2 >= -1, net change -8.564e-05 +- 1e-09"), typeset(r"$W_V^\\top W_V$")
    ('|Wᵀ a|² ≥ −1, net change −8.564\\xa0×\\xa010⁻⁵ ± 1\\xa0×\\xa010⁻⁹', 'W_Vᵀ W_V')
    """
    line = re.sub(r"(?<=\d)e([+-]\d+)\b", lambda found: _power(found[1]), line)
    for pattern, sign in _SIGNS.items():
        line = re.sub(pattern, sign, line)
    return line


def said(value: Any) -> str:
    """Whatever a summary may hold, in a few words.

    >>> from gradflow.report.numbers import said
    >>> said(True), said(None), said([0.5, 2]), said({"median": 0.2, "low": 0.1, "high": 0.3})
    ('yes', '–', '0.5, 2', '0.2 (0.1 to 0.3)')
    """
    match value:
        case bool():
            return "yes" if value else "no"
        case int() | float() | None:
            return number(value)
        case Mapping() | list() | tuple() if not value:
            return number(None)
        case {"low": low, "median": median, "high": high}:
            return f"{number(median)} ({number(low)} to {number(high)})"
        case Mapping():
            return "; ".join(f"{name(str(key))} {said(part)}" for key, part in value.items())
        case list() | tuple():
            joint = "; " if any(isinstance(part, Mapping) for part in value) else ", "
            return joint.join(map(said, value))
        case _:
            return str(value)


def size(count: int) -> str:
    """So many bytes.

    >>> from gradflow.report.numbers import size
    >>> size(512), size(73_400), size(2_000_000)
    ('512 B', '73 kB', '2.0 MB')
    """
    if count < 1000:
        return f"{count} B"
    return f"{count / 1000:.0f} kB" if count < 1_000_000 else f"{count / 1_000_000:.1f} MB"
