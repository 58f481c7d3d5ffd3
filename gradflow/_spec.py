"""The base class of everything that can be written in a configuration file."""

from pydantic import BaseModel, ConfigDict


class Spec(BaseModel):
    """A frozen description of something that can be built.

    A spec stands beside the thing it describes and has a method that builds it, so that a
    YAML file and a Python script construct the same object. Unknown keys, infinities and NaN
    are refused, and nothing is coerced: the text ``"3"`` is not the number 3.
    """

    model_config = ConfigDict(
        frozen=True, extra="forbid", strict=True, allow_inf_nan=False, validate_default=True
    )
