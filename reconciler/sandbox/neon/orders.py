"""What the server is told by who starts it: in orders.json of its folder."""

from typing import Final

import msgspec

HOST: Final = "127.0.0.1"
PROJECT: Final = "quiet-hotel-80215573"
"""The same in each sandbox, so that a policy can name it."""
FAULTS: Final = "/sandbox/faults"
"""Where faults are ordered: no part of Neon's API."""
STANDING: Final = "/sandbox/standing"
"""Where it says how it stands: neither."""
ROLE: Final = "hotel_owner"
DATABASE: Final = "hotel"


class Orders(msgspec.Struct, frozen=True, kw_only=True):
    """The API's key and port, and what the first branch shall hold."""

    key: str
    port: int
    with_hotel: bool
    plan: str = "scale"

    def __repr__(self) -> str:
        return f"Orders(port={self.port})"


class Standing(msgspec.Struct, frozen=True, kw_only=True):
    """How it stands, for who started it."""

    project_id: str
    is_made: bool
    """Whether the first branch is there."""
    failed: str
    """Why it can't be made; empty as long as it can."""
    main_url: str
    """The default branch's database, as its owner."""

    def __repr__(self) -> str:
        return f"Standing(is_made={self.is_made})"
