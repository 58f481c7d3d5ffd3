"""How runs under way are watched, and shown to whoever waits."""

from .display import Display as Display
from .display import shown as shown
from .watch import Progress as Progress
from .watch import Run as Run
from .watch import Shown as Shown
from .watch import Watch as Watch
