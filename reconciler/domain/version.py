"""The version of this package, which builds, saved plans and event logs contain."""

__version__ = "0.1.0"
