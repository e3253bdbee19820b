"""evidence/: the records of verifications and drills. Each names the one before it; none is ever written over."""

from collections.abc import Callable, Iterable
from hashlib import sha256

from reconciler.backups import layout
from reconciler.backups.layout import Held
from reconciler.backups.manifest import Manifest, decode_record
from reconciler.backups.sequence import append_record, read_once
from reconciler.errors import Absent, Corrupt
from reconciler.world.evidence import Chain, Evidence
from reconciler.world.ports import Cache, Stored, Target, custody_of


def content_of(manifest: Manifest, held: Held) -> str:
    """Which bytes lie there, by what the target says of the manifest and of each object that it names.

    Whatever is written over, or uploaded anew, is another content, of which no evidence speaks.
    """
    names = (layout.MANIFEST, *(stored.name for stored in manifest.objects))
    seen = (held.objects.get(name) for name in names)
    lines = (f"{one.key.rpartition('/')[2]} {one.size} {one.etag} {one.version or ''}" for one in seen if one is not None)
    return sha256("\n".join(lines).encode()).hexdigest()[:32]


def read_chain(target: Target, items: Iterable[Stored], cache: Cache) -> Chain:
    """All records, by sequence. What can't be read, and a link that does not hold, is said, and takes nothing else away."""
    records: list[Evidence] = []
    faults: list[str] = []
    before: str | None = None
    expected = 1
    for item in sorted(items, key=lambda item: item.key):
        sequence = layout.sequence_of(item.key)
        try:
            text = read_once(target, item, cache)
        except Absent:
            faults.append(f"{item.key} went away while we looked")
            continue
        try:
            record = decode_record(text, Evidence, f"{target.name}: {item.key}")
        except Corrupt as error:
            faults.append(error.what)
        else:
            records.append(record)
            if (sequence, record.sequence, record.before) != (expected, expected, before):
                faults.append(f"{item.key} does not follow on the record before it: some may have been removed or changed")
        before, expected = sha256(text).hexdigest(), (sequence or 0) + 1
    return Chain(records=tuple(records), faults=tuple(faults))


def append(target: Target, database: str, make: Callable[[int, str | None], Evidence]) -> Evidence:
    """Write the next record, which `make` makes of its sequence and the hash of the one before.

    Raises Conflict where others are first again and again. Met twice (a lost answer) it is one record.
    """
    retain = custody_of(target).retain
    return append_record(target, layout.evidence_root(database), make, lambda one: one.finished + retain if retain else None)
