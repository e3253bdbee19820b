"""Make the keys that backups are encrypted or signed with.

examples:
  reconcile keys new --age                       writes age-identity.txt, prints the recipient for the policy
  reconcile keys new --age --out /root/hotel.age
  reconcile keys new --signing                   writes signing-key.pem, prints the public key for the policy
"""

import argparse
from pathlib import Path

import msgspec

from reconciler.cli.files import write_new
from reconciler.cli.fitting import NO_DATABASE, NO_POLICY
from reconciler.cli.frame import Call
from reconciler.errors import Refused

AGE_WARNING = """{file} is the only key to the backups that are encrypted to it: whoever loses it has lost them for good.
  1. Copy it now to where this machine's end does not reach: a password manager, a printed sheet in a safe.
  2. Keep it out of git, and off the machine that only takes backups: for that, the recipient is enough.
  3. The machine that restores or verifies names it in the policy as encryption.age_identity."""


SIGNING_WARNING = """{file} signs backups: whoever has it can make some that this policy takes for its own.
  1. Keep it out of git, readable by nobody but the user that takes and deletes backups, who names it as signatures.signing_key.
  2. The public key is pinned in the policy as signatures.public_keys. From then on, what no pinned key signed is foreign:
     sign the backups that are there already, with `reconcile backups sign ID`.
  3. If it is lost, make another and pin both: nothing that was signed is lost."""

FITS = (NO_POLICY, NO_DATABASE)


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
    kind.add_argument("--signing", action="store_true", help="a pair that signs backups")
    says = "where the private part goes; never written over (default: age-identity.txt or signing-key.pem)"
    parser.add_argument("--out", metavar="FILE", type=Path, help=says)


def run(call: Call) -> int:
    """The private part goes to a file and nowhere else; the public one is the answer."""
    from reconciler.backups import encryption, signing

    if call.arguments.age:
        kind, name, warning = "age", "age-identity.txt", AGE_WARNING
        private, public = encryption.new_pair()
        content = f"# public key: {public}\n{private}\n"
    else:
        kind, name, warning = "signing", "signing-key.pem", SIGNING_WARNING
        private, public = signing.new_pair()
        content = private
    call.redactor.learn(private)
    file = call.arguments.out or Path(name)
    if not write_new(file, content.encode()):
        raise Refused(f"{file} exists, and a key is never written over", cure="name another file with --out")
    if call.json:
        call.answer_json(KeysDocument(format=1, kind=kind, public=public, file=str(file)))
    else:
        call.answer(public)
    call.say(warning.format(file=file))
    return 0
