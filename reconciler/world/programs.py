"""Server programs as another account can run them: in place, or copied to where it reaches (root's home is closed to it)."""

import hashlib
import os
import shutil
import stat
import tempfile
from pathlib import Path

from reconciler.errors import Refused
from reconciler.world.account import Account, anybody_reaches

_NEEDED = ("bin", "lib", "share")
_LEFT_OUT = shutil.ignore_patterns("*.a", "pgxs", "pkgconfig", "doc")
SHARED = Path("/var/tmp")  # noqa: S108  # what lies there survives a reboot; every folder made in it is checked to be ours
"""Where root puts what another account must reach."""


def runnable(binaries: Path, account: Account | None) -> Path:
    """A folder with the same programs that the account can run: `binaries` itself, else a copy, made once per version.

    A copy is put in place by a rename and compared before each use: what a killed copier or a cleaner of old files left goes.
    """
    if account is None or anybody_reaches(binaries / "postgres"):
        return binaries
    install = binaries.resolve().parent
    home = own_folder(SHARED / f"reconciler-sandbox-{os.geteuid()}-programs", mode=0o755)
    copy = home / _digest(install)
    if not copy.is_dir() or _digest(copy / install.parent.name / install.name) != copy.name:
        _copy(install, copy)
    return copy / install.parent.name / install.name / binaries.name


def own_folder(folder: Path, *, mode: int) -> Path:
    """Make the folder, or check that it is ours alone: a place where all may write may hold somebody's trap. Raises Refused."""
    folder.mkdir(mode=mode, exist_ok=True)
    found = folder.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.geteuid() or found.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        raise Refused(f"{folder} is not a folder of ours alone", cure="look at it, and remove it if nobody needs it")
    folder.chmod(mode)
    return folder


def _copy(install: Path, copy: Path) -> None:
    package = install.parent
    new = Path(tempfile.mkdtemp(dir=copy.parent, prefix="new-"))
    new.chmod(0o755)
    for part in _NEEDED:
        shutil.copytree(install / part, new / package.name / install.name / part, symlinks=True, ignore=_LEFT_OUT)
    # A wheel's libraries lie beside the package, and its programs find them by a relative path.
    libraries = package.parent / f"{package.name}.libs"
    if libraries.is_dir():
        shutil.copytree(libraries, new / libraries.name)
    old = Path(tempfile.mkdtemp(dir=copy.parent, prefix="old-"))
    if copy.exists():
        copy.rename(old / "copy")
    new.rename(copy)
    shutil.rmtree(old)


def _digest(install: Path) -> str:
    """Of what would be copied: each path and size, and the server program's bytes, which hold its version."""
    digest = hashlib.sha256()
    for part in _NEEDED:
        for folder, folders, files in os.walk(install / part):
            skipped = _LEFT_OUT(folder, [*folders, *files])
            folders[:] = sorted(set(folders) - skipped)
            for name in sorted(set(files) - skipped):
                path = Path(folder) / name
                digest.update(f"{path.relative_to(install)} {path.lstat().st_size}\n".encode())
    server = install / "bin" / "postgres"
    if server.is_file():
        digest.update(server.read_bytes())
    return digest.hexdigest()[:16]
