"""Reading a backup back: from the first target whose copy holds, every part checked before it is used."""

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from pathlib import Path

from reconciler.backups import layout
from reconciler.backups.directory import Counted, file_of
from reconciler.backups.manifest import Manifest, StoredObject, check_inside, decode, decode_record
from reconciler.backups.pipeline import Progress, open_object
from reconciler.backups.records import read_whole
from reconciler.backups.signing import Signed, check_signature
from reconciler.backups.tarred import as_tar
from reconciler.backups.toc import TOC, files_of, read_toc
from reconciler.errors import Absent, Corrupt, ReconcilerError, Refused, Unreachable
from reconciler.world.facts import Backup, Globals
from reconciler.world.fingerprint import Fingerprint
from reconciler.world.ports import Identities, Signatures, Target


def read_manifest(target: Target, database: str, backup: str, signatures: Signatures) -> Manifest:
    """Read afresh, and signed where that is asked for. Raises Absent, Corrupt, Refused."""
    return read_signed(target, database, backup, signatures).manifest


def read_signed(target: Target, database: str, backup: str, signatures: Signatures) -> Signed:
    """The same, with the bytes that a copy must have."""
    text, _ = read_whole(target, layout.object_key(database, backup, layout.MANIFEST))
    manifest = decode(text, backup=backup)
    check_inside(manifest)
    if manifest.database != database:
        raise Corrupt(f"{target.name}: the manifest of {backup} is of database {manifest.database}")
    try:
        signature = read_whole(target, layout.object_key(database, backup, layout.SIGNATURE))[0]
    except Absent:
        signature = None
    check_signature(text, signature, signatures, f"{target.name}: the manifest of {backup}")
    return Signed(manifest=manifest, text=text, signature=signature)


def archive(target: Target, manifest: Manifest, identities: Identities, moved: Progress = lambda _: None) -> Iterator[bytes]:
    """What plain `pg_restore` reads, whatever the format: a directory archive comes as a tar. Raises NoKey, Corrupt."""
    if manifest.archive == "custom":
        return open_object(target, manifest, manifest.object_of("dump"), identities=identities, moved=moved)
    return Files(target, manifest, identities, moved).as_tar()


class Files:
    """The files of a directory archive, read from one target."""

    def __init__(self, target: Target, manifest: Manifest, identities: Identities, moved: Progress = lambda _: None) -> None:
        self._target, self._manifest, self._identities = target, manifest, identities
        self._counted = Counted(moved)
        self._stored = {file_of(stored.name): stored for stored in manifest.archive_objects()}
        self._read: set[str] = set()
        self._toc: bytes | None = None

    def as_tar(self, only: Collection[str] | None = None) -> Iterator[bytes]:
        """In one stream; or some of them, which serves who restores no others. Raises Corrupt where one is superfluous."""
        yield from as_tar(self.toc(), lambda name: (self._named(name).raw_bytes, self.read(name)), only)
        if only is None:
            self._refuse_superfluous(self._stored.keys() - self._read)

    def raw_bytes(self, names: Collection[str]) -> int:
        """How large these are, and the table of contents. Raises Corrupt where one is not there."""
        return sum(self._named(name).raw_bytes for name in {TOC, *names})

    def size(self, name: str) -> int:
        """Of one of them, in bytes. Raises Corrupt where it is not there."""
        return self._named(name).raw_bytes

    def check_complete(self) -> tuple[str, ...]:
        """Every file that the table of contents names is there, and no other; these, in its order. Raises Corrupt."""
        named = tuple(files_of(read_toc(self.toc()), lambda name: b"".join(self.read(name))))
        for name in named:
            self._named(name)
        self._refuse_superfluous(self._stored.keys() - {*named, TOC})
        return named

    def _refuse_superfluous(self, names: Collection[str]) -> None:
        for name in sorted(names)[:1]:
            what = f"{self._target.name}: {self._manifest.id} has a file {name}, which its table of contents does not name"
            raise Corrupt(what, cure="move that file away, or use another copy of this backup")

    def toc(self) -> bytes:
        """The table of contents. Read once."""
        if self._toc is None:
            self._toc = b"".join(self.read(TOC))
        return self._toc

    def read(self, name: str, beside: Path | None = None) -> Iterator[bytes]:
        """One of them; `beside`: see `read_checked`. Raises Corrupt where there is none of that name."""
        stored, moved = self._named(name), self._counted.part()
        self._read.add(name)
        return open_object(self._target, self._manifest, stored, identities=self._identities, moved=moved, beside=beside)

    def _named(self, name: str) -> StoredObject:
        if name not in self._stored:
            raise Corrupt(f"{self._target.name}: {self._manifest.id} has no file {name}, which its table of contents names")
        return self._stored[name]


class ChosenFiles:
    """What a restore reads of a directory archive, file by file: all, or those that are named."""

    def __init__(self, files: Files, only: Collection[str] | None = None, beside: Path | None = None) -> None:
        """`beside`: where parts lie until they were checked, if not in memory: many files may be read at a time.

        Raises Corrupt where one is missing; of all, where one is superfluous, too.
        """
        self._files, self._beside = files, beside
        self.names = files.check_complete() if only is None else tuple(only)
        files.raw_bytes(self.names)

    def toc(self) -> bytes:
        """Its table of contents."""
        return self._files.toc()

    def raw_bytes(self, name: str) -> int:
        """How long one is."""
        return self._files.size(name)

    def read(self, name: str) -> Iterator[bytes]:
        """One of them, from its beginning."""
        return self._files.read(name, self._beside)


def read_globals(target: Target, manifest: Manifest, identities: Identities) -> Globals:
    """Roles and settings, as data. Raises NoKey, Corrupt."""
    text = b"".join(open_object(target, manifest, manifest.object_of("globals"), identities=identities))
    return decode_record(text, Globals, f"{target.name}: {layout.GLOBALS} of {manifest.id}")


def read_fingerprint(target: Target, manifest: Manifest, identities: Identities) -> Fingerprint | None:
    """What the dump's snapshot held; None where it was taken without. Raises NoKey, Corrupt."""
    stored = next((stored for stored in manifest.objects if stored.content == "fingerprint"), None)
    if stored is None:
        return None
    text = b"".join(open_object(target, manifest, stored, identities=identities))
    return decode_record(text, Fingerprint, f"{target.name}: {stored.name} of {manifest.id}")


def places_of(backup: Backup, order: Sequence[str], only: str | None) -> tuple[str, ...]:
    """Where a whole copy may be read, in that order of preference. Raises Refused where nowhere."""
    whole = [*(name for name in order if name in backup.whole_on), *(name for name in backup.whole_on if name not in order)]
    # An archived one can't be read at once: only where nothing else is left.
    whole.sort(key=lambda name: bool(backup.copies[name].archived))
    chosen = [name for name in whole if only in (None, name)]
    if not chosen:
        states = ", ".join(f"{copy.state} on {name}" for name, copy in sorted(backup.copies.items()))
        where = f" on {only}" if only else ""
        is_deleted = {copy.state for copy in backup.copies.values()} == {"deleted"}
        cure = (
            f"`reconcile backups undelete {backup.id}` brings it back"
            if is_deleted
            else "`reconcile backups list` shows which are"
        )
        raise Refused(f"{backup.id} has no whole copy{where}: it is {states}", cure=cure)
    return tuple(chosen)


def from_first_good(
    targets: Mapping[str, Target],
    names: Sequence[str],
    use: Callable[[Target], None],
    told: Callable[[str, ReconcilerError], None],
) -> str:
    """Use the first copy that holds, and say which. One that is damaged or out of reach is told of before the next is tried.

    None is tried after one that left something done by half.
    """
    last: ReconcilerError | None = None
    for name in names:
        try:
            use(targets[name])
        except (Corrupt, Absent, Unreachable) as error:
            if error.left_a_part:
                raise
            told(name, error)
            last = error
        else:
            return name
    if last is None:
        raise Refused("there is no copy to read")
    raise last
