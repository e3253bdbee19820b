"""Whether the files of a directory archive may pass through this machine: a folder for them, room, and what its disk can."""

from typing import Final

from reconciler.doctor.report import Notes, Verdict
from reconciler.duties.dumps import room_of
from reconciler.planning.text import size
from reconciler.policy.model import DatabasePolicy
from reconciler.postgres.staged import check_room
from reconciler.world.ports import World

WHERE: Final = "staging"


def examine_staging(world: World, want: DatabasePolicy) -> list[Verdict]:
    """None where dumps are streams: those need no disk."""
    room, notes = room_of(want), Notes(WHERE)
    if room is not None:
        notes.attempt(lambda: _try(world, room.most))
        if not notes.verdicts:
            notes.passes(f"room for {size(room.most)}, on a disk that tells what is still written and takes back what was read")
    return notes.verdicts


def _try(world: World, most: int) -> None:
    with world.staging.folder() as folder:
        check_room(folder, most)
