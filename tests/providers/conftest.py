"""A Neon to protect."""

from tests.servers.neon import as_published, neon

__all__ = ["as_published", "neon"]
