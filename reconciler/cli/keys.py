"""Make the keys that backups are encrypted with.

examples:
  reconcile keys new --age                       writes age-identity.txt, prints the recipient for the policy
  reconcile keys new --age --out /root/hotel.age
"""

import argparse
from pathlib import Path

import msgspec

from reconciler.cli.files import write_new
from reconciler.cli.frame import Call
from reconciler.errors import Refused

WARNING = """{file} is the only key to the backups that are encrypted to it: whoever loses it has lost them, and nobody can help.
  1. Copy it now to where this machine's end does not reach: a password manager, a printed sheet in a safe.
  2. Keep it out of git, and off the machine that only takes backups: for that, the recipient is enough.
  3. The machine that restores or verifies names it in the policy as encryption.age_identity."""


class KeysDocument(msgspec.Struct, frozen=True, kw_only=True):
    """What `keys new --format json` prints."""

    format: int
    kind: str
    public: str
    """For the policy."""
    file: str
    """Where the private part lies, mode 0600."""


def register(parser: argparse.ArgumentParser) -> None:
    """Its options."""
    parser.add_argument("verb", choices=("new",), help="what to do")
    kind = parser.add_mutually_exclusive_group(required=True)
    kind.add_argument("--age", action="store_true", help="a pair that encrypts backups")
    parser.add_argument(
        "--out", metavar="FILE", type=Path, help="where the private part goes; never written over (default: age-identity.txt)"
    )


def run(call: Call) -> int:
    """The private part goes to a file and nowhere else; the public one is the answer."""
    from reconciler.backups.encryption import new_pair

    identity, recipient = new_pair()
    call.redactor.learn(identity)
    file = call.arguments.out or Path("age-identity.txt")
    if not write_new(file, f"# public key: {recipient}\n{identity}\n".encode()):
        raise Refused(f"{file} exists, and a key is never written over", cure="name another file with --out")
    if call.json:
        call.answer_json(KeysDocument(format=1, kind="age", public=recipient, file=str(file)))
    else:
        call.answer(recipient)
    call.say(WARNING.format(file=file))
    return 0
