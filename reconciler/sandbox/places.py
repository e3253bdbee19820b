"""Where a server's files really are: PostgreSQL refuses root, and root's folders are closed to the account that it is lent."""

import hashlib
import os
from pathlib import Path

from reconciler.errors import Refused
from reconciler.world.account import Account, lent_account
from reconciler.world.programs import SHARED, own_folder


def place(folder: Path) -> Path:
    """Where the files really are: `folder` itself, or as root a place that follows from it and that another account reaches."""
    real = folder.absolute().parent.resolve() / folder.name
    if lent_account() is None:
        return real
    return SHARED / f"reconciler-sandbox-{os.geteuid()}-{hashlib.sha256(os.fsencode(real)).hexdigest()[:16]}"


def made(folder: Path) -> Path:
    """Make the place where the files really are, and as root a link to it."""
    folder.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    home = place(folder)
    if lent_account() is None:
        return own_folder(home, mode=0o700)
    own_folder(home, mode=0o711)
    if not folder.is_symlink() and not folder.exists():
        folder.symlink_to(home)
    if folder.resolve() != home:
        # A link to the data of another folder would make two sandboxes one.
        raise Refused(
            f"{folder} is in the way: as root it must be a link to {home}", cure=f"choose another folder, or remove {folder}"
        )
    return home


def give(account: Account | None, *paths: Path) -> None:
    """Make them that account's; ours stay ours where there is none."""
    if account:
        for path in paths:
            os.chown(path, account.uid, account.gid)
