"""The atlas with every lens, as the Space's own tests have it."""

from tests.space.conftest import every, known

__all__ = ["every", "known"]
