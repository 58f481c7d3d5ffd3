"""The JSON schema of a configuration in which values may be sweeps."""

from __future__ import annotations

from typing import Any

from .. import config
from ..manifest import FREE
from .dimensions import Sweep

_REF = "#/$defs/{model}"
# What an editor shows of a key, whatever stands in it.
_PROSE = ("title", "description", "default")


def schema() -> dict[str, Any]:
    """The JSON schema of a configuration file, for editors.

    In the place of a value a sweep is allowed, but of those on which no numbers depend, and of
    mappings as a whole: an editor would mark all of these, and not the key that is wrong.

    >>> import gradflow as gf
    >>> gf.sweep.schema()["properties"]["seed"]["anyOf"][-1]
    {'$ref': '#/$defs/Sweep'}
    """
    whole = config.schema()
    own = Sweep.model_json_schema(ref_template=_REF)
    outward = {name: whole["properties"][name] for name in FREE}
    for part in (whole, *whole["$defs"].values()):
        for name, value in part.get("properties", {}).items():
            if name != "kind" and not {"$ref", "oneOf"} & set(value):
                part["properties"][name] = _or_a_sweep(value)
    whole["properties"] |= outward
    inner = own.pop("$defs")
    return whole | {"$defs": whole["$defs"] | inner | {"Sweep": own}}


def _or_a_sweep(value: dict[str, Any]) -> dict[str, Any]:
    rest = {key: part for key, part in value.items() if key not in _PROSE}
    alternatives = rest["anyOf"] if set(rest) == {"anyOf"} else [rest]
    prose = {key: value[key] for key in _PROSE if key in value}
    return prose | {"anyOf": [*alternatives, {"$ref": "#/$defs/Sweep"}]}
