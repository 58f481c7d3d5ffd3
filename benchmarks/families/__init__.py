"""The families of the suite. A new one is a module here with a `Family` called ``FAMILY``."""
