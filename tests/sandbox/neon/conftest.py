"""A Neon to try."""

from tests.servers.neon import neon, own_neon

__all__ = ["neon", "own_neon"]
