"""``python -m gradflow``."""

from .cli import main

main()
