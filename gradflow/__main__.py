"""The command: ``gradflow`` and ``python -m gradflow``."""

import gc

from .cli import main


def run() -> None:
    """Run the command line."""
    # To search every 700 new objects for garbage takes a tenth of the time of starting: nearly all
    # that is imported and traced stays.
    gc.set_threshold(100_000)
    try:
        main()
    finally:
        # Leaving Python, a last search for garbage through all that JAX holds takes most of a
        # second, and finds nothing that the end of the process does not free.
        gc.freeze()


if __name__ == "__main__":
    run()
