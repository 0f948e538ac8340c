"""The version of the software. It stands here alone: where the package lies in a folder, pip knows nothing of it."""

__version__ = "0.2.0"
