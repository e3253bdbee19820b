"""A Neon to protect."""

from tests.servers.neon import neon

__all__ = ["neon"]
