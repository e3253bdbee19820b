"""Where a hook's program lies, and what would keep the system from starting it. Nothing is started here."""

import os
import stat
import sys
from pathlib import Path
from typing import Final

import msgspec

from reconciler.errors import Refused

_HEAD_BYTES: Final = 256
"""So much of a file does Linux itself look at to see how it is started (BINPRM_BUF_SIZE)."""
_ABSENT_CURE: Final = "correct argv, or put it there; hooks run on the machine that takes the backup, and that is where to look"


class Scene(msgspec.Struct, frozen=True, kw_only=True):
    """Where a hook runs."""

    folder: Path
    """The policy's: names with a slash begin there, and so do relative parts of `path`."""
    path: str
    """The PATH that the hook itself is given."""


def find(name: str, scene: Scene) -> Path:
    """What a hook of that name starts. Raises Refused where there is nothing that may be executed."""
    if "/" in name:
        places = [scene.folder / name]
    else:
        places = [scene.folder / part / name for part in scene.path.split(os.pathsep)]
        places = [place for place in places if name and os.path.lexists(place)]
        if not places:
            raise Refused(f"there is no program {name!r} in PATH, which is {scene.path}", cure=_ABSENT_CURE)
    hindrances = {place: _hindrance(place) for place in places}
    for place, hindrance in hindrances.items():
        if hindrance is None:
            return place
    raise next(hindrance for hindrance in hindrances.values() if hindrance is not None)


def check_start(program: Path, scene: Scene) -> None:
    """That the system knows how to start it, as far as its first bytes tell: no shell is there to guess.

    Raises Refused. What may be executed and not read tells nothing, and passes.
    """
    try:
        with program.open("rb") as file:
            head = file.read(_HEAD_BYTES)
    except OSError:
        return
    if head.startswith(b"#!"):
        _check_interpreter(program, os.fsdecode(head[2:].partition(b"\n")[0]).strip(" \t"), scene)
    elif b"\0" not in head:
        what = "is text, and its first two bytes are not #!" if head else "is empty"
        raise Refused(f"{program} {what}: only a shell would run it, and there is none", cure="let it begin with #!/bin/sh, say")


def _check_interpreter(program: Path, line: str, scene: Scene) -> None:
    if line.endswith("\r"):
        what = f"{program} has the line ends of Windows, which the system takes for a part of its interpreter's name"
        raise Refused(what, cure="save it with those of Unix")
    interpreter, _, rest = line.replace("\t", " ").partition(" ")
    try:
        _check(scene.folder / interpreter)
        if Path(interpreter).name == "env":
            _check_named(rest.strip(), scene)
    except Refused as error:
        what = f"{program} names in its first line what is to run it: {error.what}"
        raise Refused(what, cure="correct that line, or install it") from error


def _check_named(words: str, scene: Scene) -> None:
    """What `env` is to look for. Linux gives it all that follows as one word, which only -S has it split."""
    splits = words.startswith("-S") or sys.platform != "linux"
    name = words.removeprefix("-S").strip().partition(" ")[0] if splits else words
    if name and not name.startswith("-") and "=" not in name:
        find(name, scene)


def _check(program: Path) -> None:
    hindrance = _hindrance(program)
    if hindrance is not None:
        raise hindrance


def _hindrance(program: Path) -> Refused | None:
    try:
        mode = program.stat().st_mode
    except OSError as error:
        # Path's own is_symlink raises where it can't look.
        if not isinstance(error, PermissionError) and os.path.islink(program):  # noqa: PTH114
            return Refused(f"{program} is a link that leads nowhere", cure="let it lead to a program, or correct argv")
        if isinstance(error, FileNotFoundError | NotADirectoryError):
            return Refused(f"{program} is not there", cure=_ABSENT_CURE)
        return Refused(f"{program} can't be looked at: {error.strerror}", cure="let this user look there, or correct argv")
    if not stat.S_ISREG(mode):
        return Refused(f"{program} is {'a folder' if stat.S_ISDIR(mode) else 'no plain file'}", cure="correct argv")
    if os.access(program, os.X_OK):
        return None
    if _is_noexec(program):
        return Refused(f"{program} lies on a disk from which nothing is executed (noexec)", cure="put it on another")
    return Refused(f"{program} may not be executed by this user", cure="make it executable, as with chmod +x")


def _is_noexec(program: Path) -> bool:
    try:
        return bool(os.statvfs(program).f_flag & getattr(os, "ST_NOEXEC", 0))
    except OSError:
        return False
