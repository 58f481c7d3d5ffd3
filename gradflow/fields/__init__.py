"""The vector fields that a problem can be made to follow: each is a file and a row here."""

from typing import TYPE_CHECKING, Annotated, Union

from pydantic import Field

from .field import AbstractField as AbstractField
from .field import FieldSpec as FieldSpec
from .gradient import GradientFlow as GradientFlow
from .gradient import GradientState as GradientState
from .heavy_ball import HeavyBall as HeavyBall
from .modified import Modified as Modified
from .nesterov import Nesterov as Nesterov
from .own import OwnField as OwnField

GRADIENT = "gradient"  # needs nothing but its name
FIELDS = (
    Modified,
    HeavyBall,
    Nesterov,
)
if TYPE_CHECKING:
    AnyField = FieldSpec
else:
    AnyField = Annotated[Union[FIELDS], Field(discriminator="kind")]  # noqa: UP007
