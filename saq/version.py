"""Which version this is: the one place that says it. ``pyproject.toml`` reads it from here."""

__version__ = "1.0.0"
