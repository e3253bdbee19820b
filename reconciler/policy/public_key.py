"""Whose signatures are trusted: public keys of Ed25519, written as `ed25519:` and 32 bytes in base64."""

from base64 import b64decode
from typing import Final

from reconciler.policy.recipient import Unsayable

PREFIX: Final = "ed25519:"
_BYTES: Final = 32


class PublicKey(str):
    """As `reconcile keys new --signing` prints it."""

    __slots__ = ()

    @classmethod
    def parse(cls, text: str) -> "PublicKey":
        """Check its form. Raises ValueError with the reason; Unsayable for a private key."""
        if "-----BEGIN" in text:
            raise Unsayable("is a private key: replace it, since it stood here for all to read, and write its public key")
        try:
            raw = b64decode(text.removeprefix(PREFIX), validate=True)
        except ValueError:
            raw = b""
        if not text.startswith(PREFIX) or len(raw) != _BYTES:
            raise ValueError(
                "is no public key: write ed25519: and its 32 bytes in base64, as `reconcile keys new --signing` prints"
            )
        return cls(text)
