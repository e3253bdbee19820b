"""Keys of a simulated world: those who take backups have one that the policy pins, and a thief has one of his own."""

from base64 import b64encode
from functools import lru_cache

import msgspec

from reconciler.backups.signing import Signature, sign
from reconciler.policy.secret import Revealed
from reconciler.simulation.chance import Chance

_PKCS8 = bytes.fromhex("302e020100300506032b657004220420")
"""What comes before the 32 bytes of an Ed25519 key (RFC 8410)."""


def _key(number: int) -> Revealed:
    """The same in every run."""
    body = b64encode(_PKCS8 + Chance(number).randbytes(32)).decode()
    return Revealed("\n".join((f"-----BEGIN {_KIND}-----", body, f"-----END {_KIND}-----")))


_KIND = "PRIVATE KEY"
OURS, HIS = _key(1), _key(2)


@lru_cache(maxsize=4096)
def signed(manifest: bytes, key: Revealed = OURS) -> bytes:
    """The file beside that manifest. The same bytes each time, as Ed25519 has it."""
    return sign(manifest, key)


def public(key: Revealed = OURS) -> str:
    """As a policy pins it."""
    return msgspec.json.decode(signed(b"", key), type=Signature).public_key
