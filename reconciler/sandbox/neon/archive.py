"""What new timelines are made of: bases, which are copies of a cluster's files, and the log that follows them."""

import shutil
from collections.abc import Sequence
from pathlib import Path

from reconciler.errors import Absent
from reconciler.sandbox.neon import lsn as log
from reconciler.sandbox.neon.cloning import clone_tree, link_or_copy
from reconciler.sandbox.neon.clusters import Clusters, stands
from reconciler.sandbox.neon.records import Base, Timeline
from reconciler.sandbox.neon.work import Target
from reconciler.sandbox.places import give

_EMPTIED = {"pg_wal", "pg_replslot", "pg_dynshmem", "pg_notify", "pg_serial", "pg_snapshots", "pg_stat_tmp", "pg_subtrans"}
"""Folders whose content a server makes anew, or must not share (PostgreSQL: docs, "Making a base backup")."""
LEFT_OUT = {"postmaster.pid", "postmaster.opts", "backup_label.old", "recovery.signal", "standby.signal"}
"""Files of a running server, and of what it once went through."""


def take_base(clusters: Clusters, timeline: str) -> Base:
    """Copy the files of a running cluster. What a killed try left goes."""
    folder = clusters.folder(timeline) / "bases"
    partial = folder / "partial"
    shutil.rmtree(partial, ignore_errors=not partial.exists())
    with clusters.connect(timeline) as connection:
        start = connection.execute("select pg_backup_start('base', true)::text").fetchone() or ("",)
        clone_tree(clusters.data(timeline), partial, clusters.account, is_left_out=_is_left_out)
        stop, label = connection.execute("select lsn::text, labelfile from pg_backup_stop(false)").fetchone() or ("", "")
        stopped = stands(connection).at
    (partial / "backup_label").write_text(label)
    give(clusters.account, partial / "backup_label")
    base = Base(start=log.parse(start[0]), stop=log.parse(stop), stopped=stopped)
    place = _place(clusters, timeline, base)
    shutil.rmtree(place, ignore_errors=not place.exists())
    partial.rename(place)
    return base


def drop_base(clusters: Clusters, timeline: str, base: Base) -> None:
    """Delete it."""
    place = _place(clusters, timeline, base)
    shutil.rmtree(place, ignore_errors=not place.exists())


def trim_log(clusters: Clusters, timeline: str, *, before: int) -> None:
    """Delete the archived segments that lie wholly before that place."""
    for path in (clusters.folder(timeline) / "wal").iterdir():
        if log.is_segment(path.name) and log.segment_of(path.name) < log.segment(before):
            path.unlink(missing_ok=True)


def close_log(clusters: Clusters, timeline: str) -> None:
    """Of a cluster that rests and will be deleted: archive what it wrote since the last whole segment."""
    written = clusters.data(timeline) / "pg_wal"
    for path in sorted(written.iterdir()) if written.is_dir() else ():
        kept = clusters.folder(timeline) / "wal" / path.name
        if _is_log(path.name) and not kept.exists() and not (written / "archive_status" / f"{path.name}.done").exists():
            shutil.copyfile(path, kept)
            give(clusters.account, kept)


def nearest_base(line: Sequence[Timeline], target: Target) -> tuple[int, Base]:
    """The latest base from which the target is reached, and how far up the line it lies. Raises Absent."""
    for age, timeline in enumerate(line):
        for base in sorted(timeline.bases, key=lambda base: base.stop, reverse=True):
            if age:
                fits = base.stop <= line[age - 1].start
            else:
                fits = (target.lsn is None or base.stop <= target.lsn) and (target.at is None or base.stopped <= target.at)
            if fits:
                return age, base
    raise Absent("no copy of the files is left from which that place could be reached")


def lay_out(clusters: Clusters, timeline: str, line: Sequence[Timeline], target: Target) -> None:
    """Fill the new timeline's `data`: the nearest base, and the log that follows it, where recovery reads it.

    `line` is the timeline that the target lies in, that one's parent, and so on.
    """
    age, base = nearest_base(line, target)
    data = clusters.data(timeline)
    clone_tree(_place(clusters, line[age].id, base), data, clusters.account, is_left_out=lambda _: False)
    place = data / "pg_wal"
    status = place / "archive_status"
    status.mkdir(mode=0o700, exist_ok=True)
    for step, ancestor in enumerate(line[: age + 1]):
        last = log.segment(line[step - 1].start) if step else None
        _lay_out_log(clusters, ancestor.id, place, log.segment(base.start), last)
    for path in [path for path in place.iterdir() if path.is_file()]:
        # An ancestor archived it: it is not to be put into ours as well.
        (status / f"{path.name}.done").touch()
    give(clusters.account, status, *status.iterdir(), *place.iterdir())


def _lay_out_log(clusters: Clusters, timeline: str, place: Path, first: int, last: int | None) -> None:
    def is_wanted(name: str) -> bool:
        if not log.is_segment(name):
            return name.endswith(".history")
        return first <= log.segment_of(name) and (last is None or log.segment_of(name) <= last)

    archived, written = clusters.folder(timeline) / "wal", clusters.data(timeline) / "pg_wal"
    # What its server wrote last comes first: what leaves that folder meanwhile is in the archive.
    for path in sorted(written.iterdir()) if written.is_dir() else ():
        if is_wanted(path.name) and not (archived / path.name).exists():
            _copy_if_there(path, place / path.name)
    for path in sorted(archived.iterdir()):
        if is_wanted(path.name):
            (place / path.name).unlink(missing_ok=True)
            link_or_copy(path, place / path.name, clusters.account)


def _copy_if_there(path: Path, copy: Path) -> None:
    try:
        shutil.copyfile(path, copy)
    except FileNotFoundError:
        copy.unlink(missing_ok=True)


def _is_log(name: str) -> bool:
    return log.is_segment(name) or name.endswith(".history")


def _is_left_out(path: Path) -> bool:
    is_emptied = len(path.parts) > 1 and path.parts[0] in _EMPTIED
    return is_emptied or path.name in LEFT_OUT or path.name.startswith(("pgsql_tmp", "pg_internal.init"))


def _place(clusters: Clusters, timeline: str, base: Base) -> Path:
    return clusters.folder(timeline) / "bases" / f"{base.start:016X}"
