"""Critical points: where a flow goes as t tends to infinity, of what type, and by when."""

from .point import CriticalPoint as CriticalPoint
from .polish import polish as polish
from .spec import Polish as Polish
