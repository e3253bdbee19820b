"""evidence/: the records of verifications and drills. Each names the one before it; none is ever written over."""

from collections.abc import Callable, Iterable
from contextlib import suppress
from functools import lru_cache
from hashlib import sha256

from reconciler.backups import layout
from reconciler.backups.layout import Held
from reconciler.backups.manifest import decode_again, decode_record
from reconciler.backups.records import read_repository, read_whole
from reconciler.backups.sequence import append_record, read_once
from reconciler.errors import Absent, Conflict, Corrupt, Refused, Unreachable
from reconciler.world.evidence import Chain, Evidence
from reconciler.world.ports import ABSENT, Cache, Listing, Stored, Target, custody_of

CHAINS = 32
"""So many are remembered: one a target of each database."""


def content_of(names: Iterable[str], held: Held) -> str:
    """Which bytes lie there, by what the target says of the manifest and of each object that it names, in its order.

    Whatever is written over, or uploaded anew, is another content, of which no evidence speaks.
    """
    seen = [one for name in (layout.MANIFEST, *names) if (one := held.objects.get(name)) is not None]
    lines = [f"{one.key.rpartition('/')[2]} {one.size} {one.etag} {one.version or ''}" for one in seen]
    return sha256("\n".join(lines).encode()).hexdigest()[:32]


def read_chain(target: Target, items: Iterable[Stored], cache: Cache) -> Chain:
    """All records, by sequence. What can't be read, and a link that does not hold, is said, and takes nothing else away.

    While the listing shows the same, nothing is read and hashed again.
    """
    order = tuple(sorted(items, key=lambda item: item.key))
    memory = _memory(order, target.place, cache)
    if memory:
        return memory[0]
    chain, lasts = _read_chain(target, order, cache)
    if lasts:
        memory.append(chain)
    return chain


@lru_cache(maxsize=CHAINS)
def _memory(order: tuple[Stored, ...], place: str, cache: Cache) -> list[Chain]:
    """At most one: what these are, as they were read by way of that cache."""
    return []


def _read_chain(target: Target, order: Iterable[Stored], cache: Cache) -> tuple[Chain, bool]:
    """And whether all that was read was sound, and what the listing shows, so that the next look finds the same."""
    records: list[Evidence] = []
    faults: list[str] = []
    links: list[str] = []
    before: str | None = None
    expected, lasts = 1, True
    for item in order:
        sequence = layout.sequence_of(item.key)
        try:
            text, as_listed = read_once(target, item, cache)
        except Absent:
            faults.append(f"{item.key} went away while we looked")
            lasts = False
            continue
        lasts = lasts and as_listed
        try:
            record = decode_again(text, Evidence, f"{target.name}: {item.key}")
        except Corrupt as error:
            # The cache may have spoilt it.
            lasts = False
            faults.append(error.what)
        else:
            records.append(record)
            if (sequence, record.sequence, record.before) != (expected, expected, before):
                faults.append(f"{item.key} does not follow on the record before it: some may have been removed or changed")
        before, expected = sha256(text).hexdigest(), (sequence or 0) + 1
        links.append(before)
    return Chain(records=tuple(records), faults=tuple(faults), links=tuple(links)), lasts


def append(target: Target, database: str, make: Callable[[int, str | None], Evidence]) -> Evidence:
    """Write the next record, which `make` makes of its sequence and the hash of the one before.

    Raises Conflict where others are first again and again. Met twice (a lost answer) it is one record.
    """
    retain = custody_of(target).retain
    return append_record(target, layout.evidence_root(database), make, lambda one: one.finished + retain if retain else None)


def share(origin: Target, target: Target, database: str, repository: str, *, even_bare: bool = False) -> int:
    """Give `target` the records of `origin` that it lacks, byte for byte, under the same numbers; how many.

    None where it has others than these: nothing is written over, and no chain is mended in its midst. Raises what targets raise.
    `even_bare`: also to a target that holds nothing of the repository yet, or any more.
    """
    theirs = _numbers(origin.list(layout.evidence_root(database)))
    if not theirs or not _belongs(target, database, repository, even_bare=even_bare):
        return 0
    listing = target.list(layout.evidence_root(database))
    ours = _numbers(listing)
    if ours != theirs[: len(ours)]:
        return 0
    before = _link(target, database, ours[-1]) if ours else None
    if ours and before != _link(origin, database, ours[-1]):
        return 0
    retain = custody_of(target).retain
    given = 0
    for sequence in theirs[len(ours) :]:
        key = layout.evidence_key(database, sequence)
        text = read_whole(origin, key)[0]
        record = decode_record(text, Evidence, f"{origin.name}: {key}")
        if (record.sequence, record.before, record.repository) != (sequence, before, repository):
            break
        # Whatever instant somebody wrote into it: nothing is locked for longer than what is written now.
        until = min(record.finished, listing.store_time) + retain if retain else None
        try:
            target.write(key, [text], expect=ABSENT, keep_until=until if until and until > listing.store_time else None)
        except Conflict:
            # Somebody else gives it the same, or verified meanwhile: the next copy tells.
            break
        before, given = sha256(text).hexdigest(), given + 1
    return given


def share_if_possible(origin: Target, target: Target, database: str, repository: str, *, even_bare: bool = False) -> None:
    """The same; what can't be done now is done after the next copy or verification."""
    with suppress(Unreachable, Refused, Conflict, Absent, Corrupt):
        share(origin, target, database, repository, even_bare=even_bare)


def bring_back(others: Iterable[Target], home: Target, database: str, repository: str) -> None:
    """To a home that has lost records, or became home lately, from whoever has them: the next one would begin another chain."""
    for other in others:
        share_if_possible(other, home, database, repository, even_bare=True)


def _belongs(target: Target, database: str, repository: str, *, even_bare: bool) -> bool:
    try:
        return read_repository(target, layout.repository_key(database)).id == repository
    except Absent:
        return even_bare


def _numbers(listing: Listing) -> list[int]:
    return sorted(sequence for item in listing.items if (sequence := layout.sequence_of(item.key)) is not None)


def _link(target: Target, database: str, sequence: int) -> str:
    return sha256(read_whole(target, layout.evidence_key(database, sequence))[0]).hexdigest()
