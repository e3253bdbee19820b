"""`backups show`, `fetch` and `restore`: all that reads one back."""

import argparse
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from os import cpu_count
from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING, NamedTuple

from reconciler.backups import fetch as reading
from reconciler.backups.manifest import Manifest, encode, without
from reconciler.backups.one_table import Chosen, one_table
from reconciler.backups.pins import pinned
from reconciler.backups.pipeline import Progress, read_checked
from reconciler.backups.toc import read_toc
from reconciler.cli.files import is_stream, replacing, streaming, write_all
from reconciler.cli.frame import Call
from reconciler.cli.progress import progress
from reconciler.cli.session import Session, named_targets, open_session
from reconciler.cli.values import whole_number
from reconciler.connect import known_sources, open_target
from reconciler.duties import DUTIES
from reconciler.duties.dumps import marks_told
from reconciler.duties.verification import told_failed
from reconciler.errors import Absent, ReconcilerError, Refused
from reconciler.planning.proof import refuted
from reconciler.planning.text import plain, size
from reconciler.policy.model import DatabasePolicy
from reconciler.policy.relation import Relation
from reconciler.policy.secret import Text
from reconciler.turn import survey
from reconciler.world.events import Began, Ended, Moved, Tell
from reconciler.world.evidence import Evidence
from reconciler.world.facts import Backup
from reconciler.world.ports import Target, World

if TYPE_CHECKING:
    from reconciler.postgres.dump import Manners
    from reconciler.postgres.piped import Pipes
    from reconciler.postgres.spool import Spool

FETCH_TAKES = ("--output", "--raw", "--force")
RESTORE_TAKES = ("--into", "--jobs", "--spool", "--map-role", "--no-roles", "--no-tablespaces", "--table")
MOST_JOBS = 64
"""Each is a session of the server."""
USUAL_JOBS = 4
"""Where several are picked, and this machine has the cores."""


def register(parser: argparse.ArgumentParser) -> None:
    """Their options."""
    group = parser.add_argument_group("fetch and restore")
    group.add_argument(
        "--output",
        metavar="FILE",
        type=Path,
        help="where the archive goes, as plain pg_restore reads it; - : the standard output (fetch)",
    )
    group.add_argument(
        "--jobs",
        metavar="N",
        type=whole_number(1, MOST_JOBS),
        help="so many sessions at once: faster for large databases, but not in one transaction; "
        "unless its format is directory, the archive must fit on disk meanwhile (restore; default: 1, since only one session is "
        f"all or nothing and goes on to another copy where one is damaged; up to {USUAL_JOBS} with --spool)",
    )
    group.add_argument(
        "--spool",
        metavar="FOLDER",
        type=Path,
        help="keep the archive there, and check all of it before the first job begins; default: "
        "the system's temporary folder for format custom, nowhere for format directory (restore)",
    )
    group.add_argument("--raw", action="store_true", help="as it is stored: compressed, and encrypted if it is (fetch)")
    group.add_argument("--force", action="store_true", help="write over an existing file (fetch)")
    group.add_argument(
        "--into",
        metavar="URL",
        help="an empty database; write '${NAME}' to take the url from the environment, out of sight (restore)",
    )
    group.add_argument(
        "--map-role",
        metavar="OLD=NEW",
        action="append",
        default=[],
        help="give what the backup's role OLD owned and was granted to the server's role NEW; may be repeated (restore)",
    )
    group.add_argument(
        "--no-roles",
        action="store_true",
        help="make no roles, leave owners and rights out: everything belongs to whoever restores (restore)",
    )
    group.add_argument("--no-tablespaces", action="store_true", help="put everything into the default tablespace (restore)")
    group.add_argument(
        "--table",
        metavar="SCHEMA.NAME",
        type=_table,
        help="only this table of a directory archive; nothing else is fetched (restore)",
    )


class Found:
    """The backup that was asked for, and the world that it lies in."""

    def __init__(
        self, session: Session, want: DatabasePolicy, world: World, backup: Backup, bad: Mapping[tuple[str, str], Evidence]
    ) -> None:
        self._session = session
        self.want, self.world, self.backup = want, world, backup
        self.failed = {name: told_failed(bad[name, backup.id]) for name in backup.copies if (name, backup.id) in bad}
        """What a verification found wrong with copies of it, by target."""

    def read(self, call: Call, use: Callable[[Target, Manifest], None]) -> str:
        """From the first copy that holds; pinned, so that nobody deletes it meanwhile. One that failed comes last."""
        name, backup = self.want.name, self.backup.id
        # All that is ever written by whoever reads.
        home, _ = open_target(self._session.policy, self.want.home, self._session.means, writable=True)

        def with_manifest(target: Target) -> None:
            if target.name in self.failed:
                call.say(plain(f"{backup} on {target.name} {self.failed[target.name]}"))
            with pinned(self.world, home, target, database=name, backup=backup, for_what=call.arguments.verb):
                use(target, reading.read_manifest(target, name, backup, self.world.signatures))

        names = reading.places_of(self.backup, self.want.dumps.targets, call.arguments.origin)
        names = tuple(sorted(names, key=self.failed.__contains__))
        return reading.from_first_good(self.world.targets, names, with_manifest, lambda name, error: _told(call, name, error))


def _told(call: Call, name: str, error: ReconcilerError) -> None:
    call.say(plain(f"{name}: {error.what}") + (f"\n  {plain(error.cure)}" if error.cure else ""))


def find(call: Call, session: Session) -> Found:
    """By id, or by its beginning where that is unambiguous. Raises Refused, Absent."""
    asked = call.arguments.id
    if not asked:
        raise Refused(f"backups {call.arguments.verb} needs the ID of a backup", cure="`reconcile backups list` shows them")
    named_targets(session, [call.arguments.origin] if call.arguments.origin else [])
    found, unknown = [], []
    for want, world in session.worlds(writable=False):
        one = survey(world, want, DUTIES)
        have, bad = one.have, {} if one.plan.foreign else refuted(one.have)
        unknown += [f"{name} ({seen.reason})" for name, seen in have.unknown().items()]
        found += [Found(session, want, world, backup, bad) for backup in have.backups() if backup.id.startswith(asked)]
    exact = [one for one in found if one.backup.id == asked]
    if len(exact or found) == 1:
        return (exact or found)[0]
    if found:
        raise Refused(f"{asked} begins {len(found)} backups", cure="give more of the ID, or --database")
    if unknown:
        raise Absent(f"no backup {asked} on what can be seen; unknown: {', '.join(unknown)}")
    raise Absent(f"there is no backup {asked}", cure="`reconcile backups list` shows what there is")


def show(call: Call) -> int:
    """The manifest, and where copies of it are."""
    found = find(call, open_session(call))
    if not call.json:
        for name, copy in sorted(found.backup.copies.items()):
            call.say(
                plain(
                    f"{name}: {copy.state}"
                    + (f": {copy.why}" if copy.why else "")
                    + (f"; {found.failed[name]}" if name in found.failed else "")
                    + (f"; {copy.held}" if copy.held else "")
                )
            )
    names = reading.places_of(found.backup, found.want.dumps.targets, call.arguments.origin)
    place = found.world.targets[names[0]]
    manifest = reading.read_manifest(place, found.want.name, found.backup.id, found.world.signatures)
    if not call.json and manifest.fingerprint is not None:
        call.say(plain(f"fingerprint: {marks_told(manifest.fingerprint)}"))
    call.answer_as_json(encode(manifest).decode())
    return 0


def fetch(call: Call) -> int:
    """Into a file, whole or not at all; into a pipe or a device as it comes."""
    output = call.arguments.output
    if output is None:
        raise Refused("fetch needs a place for the archive", cure="add --output FILE, or - for the standard output")
    streams = is_stream(output)
    if streams and call.arguments.force:
        raise Refused(f"--force is for files, and {output} is none", cure="leave it out")
    if output.exists() and not streams and not call.arguments.force:
        raise Refused(f"{output} exists", cure="name another file, or add --force to write over it")
    found = find(call, open_session(call))
    with progress(call) as tell:
        written, hosted = 0, list[str]()

        def into_file(target: Target, manifest: Manifest) -> None:
            nonlocal written
            if written and streams:
                raise Refused(f"what went into {output} is cut short", cure="throw it away; --from TARGET reads another copy")
            written = 0
            hosted[:] = manifest.hosted
            with (streaming if streams else replacing)(output) as file, _told_of(tell, found, manifest) as moved:
                for chunk in _content(call, found, target, manifest, moved):
                    write_all(file, chunk)
                    written += len(chunk)

        origin = found.read(call, into_file)
    came = f"{found.backup.id} from {origin}: {size(written)} in {output}"
    if streams:
        call.say(came)
    else:
        call.answer(came + ("" if call.arguments.raw else "\n" + "\n".join(_by_hand(hosted, output))))
    return 0


def _by_hand(hosted: Sequence[str], output: Path) -> list[str]:
    """What restores the archive."""
    archive, listed = (quote(f"{output}{end}") for end in ("", ".list"))
    if not hosted:
        return [f"  pg_restore --dbname=DATABASE {archive}"]
    return [
        f"  pg_restore --list {archive} | {without(hosted)} > {listed}",
        f"  pg_restore --use-list={listed} --dbname=DATABASE {archive}",
        "  (its host's own default privileges are left out: nobody else may set them)",
    ]


def _content(call: Call, found: Found, target: Target, manifest: Manifest, moved: Progress) -> Iterator[bytes]:
    """As plain pg_restore reads it; or as it is stored, which takes no key. Checked part by part either way."""
    if call.arguments.raw and manifest.archive == "directory":
        what = f"{found.backup.id} is of format directory: {len(manifest.archive_objects())} objects, and --output is one file"
        raise Refused(what, cure="leave --raw out: then it comes as a tar, which pg_restore reads")
    if call.arguments.raw:
        return read_checked(target, manifest, manifest.object_of("dump"), moved=moved)
    return reading.archive(target, manifest, found.world.identities, moved)


def restore(call: Call) -> int:
    """Into an empty database, by plain pg_restore, roles first. A source of the policy is refused."""
    from reconciler.postgres.restore import Choices, Part, Restored, restore_into
    from reconciler.postgres.session import session as connected
    from reconciler.postgres.url import parse

    if not call.arguments.into:
        raise Refused("restore needs an empty database to restore into", cure="add --into URL")
    choices = Choices(
        roles=_mapped_roles(call.arguments.map_role, no_roles=call.arguments.no_roles),
        no_roles=call.arguments.no_roles,
        no_tablespaces=call.arguments.no_tablespaces,
    )
    session = open_session(call)
    conninfo = parse(_url(call, session), field="--into")
    found = find(call, session)
    sources = known_sources(session.policy, session.means)
    results: list[tuple[Restored, Taken]] = []
    # That nobody lets us in is no copy's fault, and would be met again with each of them.
    with connected(conninfo, "reconciler/restore"):
        pass
    with progress(call) as tell:

        def into_database(target: Target, manifest: Manifest) -> None:
            with _told_of(tell, found, manifest) as moved:
                taken = _taken(call, found, target, manifest, moved)
                restored = restore_into(
                    conninfo,
                    taken.chunks,
                    part=None if taken.chosen is None else Part(entries=taken.chosen.entries, extensions=taken.chosen.extensions),
                    facts=manifest.dump_facts(),
                    globals=reading.read_globals(target, manifest, found.world.identities),
                    sources=sources,
                    manners=_manners(found.want, session),
                    by_jobs=_by_jobs(call, taken),
                    choices=choices,
                )
            results.append((restored, taken))

        origin = found.read(call, into_database)
    restored, taken = results[-1]
    left_out = (*(() if taken.chosen is None else taken.chosen.left_out), *restored.left_out)
    call.answer(_restored(found, origin, restored.roles_created, left_out))
    return 0


class Taken(NamedTuple):
    """What is restored of a backup."""

    chunks: Iterator[bytes]
    raw_bytes: int
    files: reading.Files | None
    """Of a directory archive."""
    chosen: Chosen | None = None
    """Which part of it; None: all."""


def _taken(call: Call, found: Found, target: Target, manifest: Manifest, moved: Progress) -> Taken:
    """All of it; or of a directory archive what one table needs, and which entries these are. Nothing else is fetched."""
    if manifest.archive != "directory":
        if call.arguments.table is None:
            return Taken(reading.archive(target, manifest, found.world.identities, moved), manifest.archive_raw_bytes, None)
        what = f"{found.backup.id} is of format custom: one stream, of which --table can't be fetched alone"
        raise Refused(what, cure="leave it out; or fetch the backup, and use `pg_restore --table`")
    files = reading.Files(target, manifest, found.world.identities, moved)
    if call.arguments.table is None:
        return Taken(files.as_tar(), manifest.archive_raw_bytes, files)
    chosen = one_table(read_toc(files.toc()), call.arguments.table)
    return Taken(files.as_tar(chosen.files), files.raw_bytes(chosen.files), files, chosen)


def _by_jobs(call: Call, taken: Taken) -> "Spool | Pipes | None":
    """One stream; or the files of an archive as they come, unless it is to be kept on disk first, as one that is a file must."""
    from tempfile import gettempdir

    from reconciler.postgres.piped import Pipes
    from reconciler.postgres.spool import Spool

    spool = call.arguments.spool
    jobs = call.arguments.jobs or _picked(call, taken)
    if jobs == 1:
        return None
    folder = (spool or Path(gettempdir())).absolute()
    if taken.files is not None and spool is None:
        only = None if taken.chosen is None else taken.chosen.files
        files = reading.ChosenFiles(taken.files, only, beside=folder)
        return Pipes(
            jobs=jobs, files=files, folder=folder, cure="name a folder for the archive as --spool, or restore without --jobs"
        )
    cure = "name a folder with room as --spool, or restore without --jobs, which needs none"
    return Spool(jobs=jobs, folder=folder, raw_bytes=taken.raw_bytes, cure=cure)


def _picked(call: Call, taken: Taken) -> int:
    """All or nothing, unless a folder says that several may restore: only they need one. What is picked is told."""
    if call.arguments.spool is not None:
        jobs = max(2, min(USUAL_JOBS, cpu_count() or 1))
        call.say(f"{jobs} sessions restore it, once all of it lies in {plain(str(call.arguments.spool))} and was found sound")
        return jobs
    if taken.files is not None and taken.chosen is None:
        call.say("one session restores it, all or nothing; --jobs N is faster, and leaves a part behind where it fails")
    return 1


def _table(text: str) -> str:
    """As the archive has it; the policy's way of writing one, with quotes, is taken too."""
    try:
        relation = Relation.parse(text)
    except ValueError:
        return text
    return f"{relation.schema}.{relation.name}"


def _mapped_roles(written: Sequence[str], *, no_roles: bool) -> dict[str, str]:
    """Of `old=new`, each old one once."""
    if written and no_roles:
        raise Refused("--map-role and --no-roles contradict each other", cure="use one of them")
    mapped: dict[str, str] = {}
    for pair in written:
        old, equals, new = pair.partition("=")
        if not (old and equals and new) or old in mapped:
            raise Refused(
                f"--map-role {pair} is not OLD=NEW, or maps a role twice", cure="write e.g. --map-role app=app_restored"
            )
        mapped[old] = new
    return mapped


def _restored(found: Found, origin: str, roles: tuple[str, ...], left_out: tuple[str, ...]) -> str:
    lines = [f"{found.backup.id} from {origin}: restored"]
    lines += [f"  roles created: {', '.join(roles)}"] if roles else []
    lines += [f"  left out: {says}" for says in left_out]
    return "\n".join(plain(line) for line in lines)


def _url(call: Call, session: Session) -> str:
    """A literal, or ${NAME}: what stands on the command line is seen by every user of this machine."""
    into = call.arguments.into
    try:
        written = Text.parse(into)
    except ValueError as error:
        raise Refused(f"--into: {error}", cure="write '${NAME}' in single quotes, or the url itself") from error
    url = written.reveal(session.means.surroundings, field="--into")
    call.redactor.learn(url)
    return url


def _manners(want: DatabasePolicy, session: Session) -> "Manners":
    from reconciler.postgres.dump import Manners

    named = getattr(want.source, "client_bin", None)
    folder = session.means.surroundings.base / Path(named).expanduser() if named else None
    return Manners(clock=session.means.clock, stop=session.means.stop, client_bin=folder)


@contextmanager
def _told_of(tell: Tell, found: Found, manifest: Manifest) -> Iterator[Progress]:
    """A bar for reading it back."""
    name = f"read:{manifest.id}"
    tell(
        Began(
            action=name,
            database=found.want.name,
            says=f"read {manifest.id}",
            expected_bytes=manifest.archive_bytes,
        )
    )
    ok = False
    try:
        yield lambda count: tell(Moved(action=name, bytes=count))
        ok = True
    finally:
        # Why it failed is said by the error itself.
        tell(Ended(action=name, database=found.want.name, says="", ok=ok))
