"""To whom backups are encrypted: public keys of age, written as `age1…` or as a line of an SSH public key."""

from typing import Final

_PRIVATE: Final = ("AGE-SECRET-KEY-", "AGE-PLUGIN-", "-----BEGIN")


class Unsayable(ValueError):
    """A reason to be told without the value that it is about: what stands there is a secret in the wrong place."""


class Recipient(str):
    """A public key that age encrypts to: X25519 (`age1…`), `ssh-ed25519 …` or `ssh-rsa …`."""

    __slots__ = ()

    @classmethod
    def parse(cls, text: str) -> "Recipient":
        """Check it, its checksum too. Raises ValueError with the reason; Unsayable for a private key."""
        if any(mark in text.upper() for mark in _PRIVATE):
            raise Unsayable("is a private key: replace it, since it stood here for all to read, and write its public key")
        if text.startswith("age1"):
            _check(text, "is no age recipient: a letter is wrong or missing")
        elif text.startswith(("ssh-ed25519 ", "ssh-rsa ")):
            _check(text, "is no SSH public key: copy the whole line of the .pub file")
        else:
            raise ValueError("is no recipient: write age1…, or a line that begins with ssh-ed25519 or ssh-rsa")
        return cls(text)


def _check(text: str, what: str) -> None:
    import pyrage

    kind = pyrage.x25519 if text.startswith("age1") else pyrage.ssh
    try:
        kind.Recipient.from_str(text)
    except pyrage.RecipientError as error:
        raise ValueError(what) from error
