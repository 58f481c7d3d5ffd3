"""The base class of everything that can be written in a configuration file."""

import inspect
import re
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, GetJsonSchemaHandler, ValidationError


class Spec(BaseModel):
    """A frozen description of something that can be built.

    A spec stands beside the thing it describes and has a method that builds it, so that a
    YAML file and a Python script construct the same object. Unknown keys, infinities and NaN
    are refused, and nothing is coerced: the text ``"3"`` is not the number 3.
    """

    model_config = ConfigDict(
        frozen=True, extra="forbid", strict=True, allow_inf_nan=False, validate_default=True
    )

    @classmethod
    def __get_pydantic_json_schema__(
        cls, core_schema: Any, handler: GetJsonSchemaHandler
    ) -> dict[str, Any]:
        """With what the docstring, or a base's, says under "Attributes" at the properties."""
        reference = handler(core_schema)
        schema = handler.resolve_ref_schema(reference)
        for base in reversed(cls.__mro__):
            prose, _, _ = inspect.cleandoc(base.__doc__ or "").partition("\n\n>>> ")
            summary, _, attributes = prose.partition("\n\nAttributes:\n")
            for name, text in re.findall(r"^    (\w+): (.*(?:\n {5,}.*)*)", attributes, re.M):
                if name in schema.get("properties", {}):
                    schema["properties"][name]["description"] = " ".join(text.split())
            schema["description"] = summary
        if "kind" in schema.get("properties", {}):
            # Of several specs a file says by the kind which it means, also where Python need not.
            schema["properties"]["kind"]["description"] = "which of the alternatives this is."
            schema["required"] = list(dict.fromkeys(["kind", *schema.get("required", ())]))
        return reference


AnySpec = TypeVar("AnySpec", bound=Spec)


def checked(spec: type[AnySpec], **fields: Any) -> AnySpec:
    """The arguments of a function as a spec.

    Raises:
        ValueError: an argument is out of range.
    """
    try:
        return spec(**fields)
    except ValidationError as error:
        faults: dict[str, list[str]] = {}
        for fault in error.errors():
            # Of the alternatives of a union, which stand in brackets, only the field's own name.
            path = ".".join(str(part) for part in fault["loc"] if "[" not in str(part))
            faults.setdefault(f"{path} = {fault['input']!r}", []).append(fault["msg"])
        told = (f"{what}: {', or '.join(messages)}" for what, messages in faults.items())
        raise ValueError("; ".join(told)) from None
