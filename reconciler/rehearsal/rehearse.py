"""One rehearsal: a point is brought back into a scratch database, looked at, asked, and gone again. Timed step by step."""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager

import msgspec

from reconciler.errors import Corrupt, ReconcilerError, Stopped
from reconciler.policy.model import Check
from reconciler.world.evidence import Fault
from reconciler.world.facts import DumpFacts, Globals
from reconciler.world.fingerprint import Fingerprint
from reconciler.world.ports import Clock
from reconciler.world.scratch import Room, Scratch


class Rehearsed(msgspec.Struct, kw_only=True):
    """What came of it, as far as it went."""

    did: list[str]
    faults: list[Fault]
    left_out: list[str]
    seconds: dict[str, float]
    where: str = ""


class Reading:
    """Chunks of an archive on their way, and whatever went wrong in reading them: that is not the scratch server's doing."""

    def __init__(self, chunks: Iterable[bytes]) -> None:
        self._chunks = chunks
        self.error: BaseException | None = None

    def __iter__(self) -> Iterator[bytes]:
        try:
            yield from self._chunks
        except GeneratorExit:
            raise
        except BaseException as error:
            self.error = error
            raise


class Archive(msgspec.Struct, frozen=True, kw_only=True):
    """A dump to be brought back."""

    facts: DumpFacts
    globals: Globals
    chunks: Reading
    raw_bytes: int
    fingerprint: Fingerprint | None
    """What the source held; None: it was dumped without."""


def rehearse(scratch: Scratch, archive: Archive, checks: Sequence[Check], clock: Clock) -> Rehearsed:
    """Whatever can be said of the archive is a fault in the answer; where the scratch server is to blame, an unproven one.

    Raises what reading the archive raises, and Stopped.
    """
    done = Rehearsed(did=[], faults=[], left_out=[], seconds={})
    try:
        with scratch.room(archive.facts, archive.globals) as room:
            done.where = room.place
            _restore(room, archive, done, clock)
            with _timed(done, "compare", clock):
                _compare(room, archive.fingerprint, done)
            with _timed(done, "inspect", clock):
                inspection = room.inspect()
                done.faults += inspection.faults
                done.left_out += inspection.notes
            with _timed(done, "checks", clock):
                _ask(room, checks, done)
    except (Stopped, Corrupt):
        raise
    except ReconcilerError as error:
        if error is archive.chunks.error:
            raise
        what = error.what + (f"; {error.cure}" if error.cure else "")
        done.faults.append(Fault(where="scratch", what=what, result="unproven"))
    return done


def _restore(room: Room, archive: Archive, done: Rehearsed, clock: Clock) -> None:
    with _timed(done, "restore", clock):
        restoration = room.restore(archive.chunks, raw_bytes=archive.raw_bytes)
    done.did.append(restoration.did)
    done.faults += restoration.faults
    done.left_out += restoration.left_out


def _compare(room: Room, expected: Fingerprint | None, done: Rehearsed) -> None:
    if expected is None:
        done.left_out.append("rows were not compared: the dump was taken without a fingerprint")
        return
    comparison = room.compare(expected)
    done.did.append(comparison.did)
    done.faults += comparison.faults
    done.left_out += comparison.notes


def _ask(room: Room, checks: Sequence[Check], done: Rehearsed) -> None:
    found = [room.check(check) for check in checks]
    done.faults += [fault for fault in found if fault is not None]
    if checks:
        done.did.append(f"asked {len(checks)} checks: {found.count(None)} as expected")


@contextmanager
def _timed(done: Rehearsed, step: str, clock: Clock) -> Iterator[None]:
    began = clock.monotonic()
    try:
        yield
    finally:
        done.seconds[step] = round(clock.monotonic() - began, 3)
