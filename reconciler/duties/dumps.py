"""Dumps: one for every slot of the schedule, on the first target that can be reached."""

from collections.abc import Mapping
from contextlib import suppress
from datetime import datetime, timedelta

import msgspec

from reconciler.backups import layout
from reconciler.backups.directory import Room
from reconciler.backups.landing import Blamed
from reconciler.backups.manifest import Kind, PolicyRecord
from reconciler.backups.pipeline import Packing
from reconciler.backups.signing import signing_key
from reconciler.backups.writer import Order, drafting, ensure_repository, write_dump
from reconciler.errors import Finding, Refused, Unreachable
from reconciler.planning.allowance import SKEW
from reconciler.planning.identity import repository_id
from reconciler.planning.plan import Action, Due, Duty, Shown, Step
from reconciler.planning.text import age, counted, instant, size
from reconciler.planning.timing import slots_of, waits
from reconciler.policy.model import DEFAULT_JOBS, DatabasePolicy, Staging
from reconciler.policy.secret import Revealed
from reconciler.world.events import Moved
from reconciler.world.facts import WHOLE, Catalogue, Copy, Filters, Identity, Known, Observation, Repository, Tombstone
from reconciler.world.fingerprint import Summary
from reconciler.world.ports import DumpOptions, Target, World


class TakeDump(Action, frozen=True, kw_only=True, tag="take_dump"):
    """Dump the source to one target."""

    effect = "create"
    hooked = "dump"
    first = True

    target: str
    slot: datetime | None
    backup_kind: Kind = "scheduled"
    repository: str | None
    """None: nothing was begun yet, an id is drawn."""
    identity: Identity
    """What the source must turn out to be."""
    filters: Filters = WHOLE
    """What of the source is dumped."""
    labels: Mapping[str, str] = {}
    keep_until: datetime | None = None

    def perform(self, world: World, want: DatabasePolicy) -> str:
        """On the target, or on the next of the policy's that takes it: one that can be listed may be full, or read-only."""
        failures: list[Refused | Unreachable] = []
        repository = self.repository or world.token(8)
        for name in dict.fromkeys((self.target, *want.dumps.targets)):
            landing = Blamed(world.targets[name])
            try:
                done = self._dump_to(world, want, landing, repository)
            except (Refused, Unreachable) as error:
                if not landing.is_to_blame(error):
                    raise
                failures.append(error)
            else:
                return "; ".join((done, *(f"not on {failure.what}" for failure in failures)))
        raise failures[0]

    def _dump_to(self, world: World, want: DatabasePolicy, target: Target, repository: str) -> str:
        """Intent, dump, manifest. The session itself asserts the identity."""
        key = signing_key(world.signatures)
        started = world.clock.now()
        backup = layout.backup_id(started, world.token(3))
        self._begin_repository(world, want, repository, target)
        with (
            drafting(world, target, self.database, backup, kind=self.backup_kind, slot=self.slot, repository=repository) as draft,
            world.provider.source().dump(backup, expect=self.identity, options=options_of(want, self.filters)) as dump,
        ):
            order = self._order(world, want, backup, repository, key)

            def moved(count: int) -> None:
                world.tell(Moved(action=self.id, bytes=count, at_hand=dump.at_hand))

            manifest = write_dump(draft, dump, order, world, moved=moved)
        took = age(manifest.finished - started)
        raw = manifest.archive_raw_bytes
        done = f"{backup} on {target.name}: {size(manifest.stored_bytes)} stored of {size(raw)} dumped, in {took}"
        done += f"; {marks_told(manifest.fingerprint)}" if manifest.fingerprint is not None else ""
        return f"{done}; passwords left out: the role may not read pg_authid" if dump.globals.unread_passwords else done

    def _begin_repository(self, world: World, want: DatabasePolicy, repository: str, target: Target) -> None:
        """On every target of the policy, so that they never come to hold two; one that takes nothing gets it with a copy."""
        record = Repository(
            id=repository,
            identity=self.identity,
            targets={name: world.targets[name].place for name in want.dumps.targets},
            home=want.home,
            created=world.clock.now(),
        )
        if self.repository is not None:
            ensure_repository(target, self.database, record)
            return
        for name in sorted({*want.dumps.targets, want.home}):
            if name == target.name:
                ensure_repository(target, self.database, record)
                continue
            # Without an answer it may hold another's by now; a clear no leaves it empty, as it was seen to be.
            with suppress(Refused):
                ensure_repository(world.targets[name], self.database, record)

    def _order(self, world: World, want: DatabasePolicy, backup: str, repository: str, key: Revealed | None) -> Order:
        return Order(
            database=self.database,
            id=backup,
            repository=repository,
            kind=self.backup_kind,
            slot=self.slot,
            place=world.provider.place,
            packing=Packing(
                level=want.dumps.compression.level,
                threads=want.dumps.compression.threads,
                recipients=want.recipients,
            ),
            signing_key=key,
            policy=PolicyRecord(digest=world.policy_digest, git_commit=world.git_commit),
            filters=self.filters,
            labels=self.labels,
            keep_until=self.keep_until,
            room=room_of(want),
        )


def marks_told(taken: Summary) -> str:
    """What the fingerprint covers and what not, for people."""
    said = f"{taken.level} of {counted(taken.tables, 'table')} with {counted(taken.rows, 'row')}"
    names = ", ".join(f"{one.what} ({one.why})" for one in taken.reasons[:3])
    return said + (f", {taken.uncovered} not covered{': ' if names else ''}{names}" if taken.uncovered else "")


def room_of(want: DatabasePolicy) -> Room | None:
    """What a directory archive may take of this machine; None for one that is a stream."""
    if want.dumps.format == "custom":
        return None
    return Room(jobs=want.dumps.jobs or DEFAULT_JOBS, most=(want.dumps.staging or Staging()).most)


def filters_of(want: DatabasePolicy) -> Filters:
    """What of the database is dumped, as the policy names it."""
    dumps = want.dumps
    include, exclude, exclude_data = (tuple(map(str, names)) for names in (dumps.include, dumps.exclude, dumps.exclude_data))
    return Filters(include=include, exclude=exclude, exclude_data=exclude_data)


def options_of(want: DatabasePolicy, filters: Filters) -> DumpOptions:
    """How the source is to dump."""
    limits = want.dumps.limits
    level = None if want.dumps.fingerprint == "none" else want.dumps.fingerprint
    room = room_of(want)
    return DumpOptions(
        max_duration=limits.max_duration,
        yield_to=limits.yield_to,
        filters=filters,
        passwords=want.dumps.roles == "with_passwords",
        fingerprint=level,
        jobs=room.jobs if room is not None else 0,
        through=want.dumps.from_,
    )


def due(want: DatabasePolicy, have: Observation, now: datetime) -> Due:
    """A dump is due where the newest slot is later than every slot that was done: missed ones collapse into one."""
    next_at = want.opening(slots_of(want, have).next(now, want.timezone))
    slot = due_slot(want, have, now)
    if slot is None:
        return Due(next_at=next_at)
    waiting = waits(want, have, "dump", now, which=f" of slot {instant(slot)}")
    if waiting is not None:
        return waiting
    step, finding = plan_dump(want, have, slot=slot)
    if step is None:
        return Due(findings=(finding,) if finding else (), next_at=next_at, stuck=True)
    late = now - slot
    why = f"slot {instant(slot)}" + (f", {age(late)} late" if late.total_seconds() >= 3600 else "")
    others = [name for name in want.dumps.targets if name != step.action.target]  # type: ignore[attr-defined]  # it is a TakeDump
    why += (
        f"; {'copy' if len(others) == 1 else 'copies'} to {', '.join(others)} follow{'s' if len(others) == 1 else ''}"
        if others
        else ""
    )
    said = filters_of(want).says()
    why += f"; {said}" if said else ""
    return Due(steps=(msgspec.structs.replace(step, shown=msgspec.structs.replace(step.shown, why=why)),), next_at=next_at)


def due_slot(want: DatabasePolicy, have: Observation, now: datetime) -> datetime | None:
    """The one that has come and has no dump yet; None where none is due."""
    slot = slots_of(want, have).latest(_undisputed(have, now), want.timezone) if have.known() else None
    done = newest_slot(want, have, now)
    return None if slot is None or (done is not None and slot <= done) else slot


def next_dump(want: DatabasePolicy, have: Observation, now: datetime) -> datetime | None:
    """When one may start next, windows counted; where one may start now, its slot, which has passed. None: never."""
    slot = due_slot(want, have, now)
    if slot is None:
        return want.opening(slots_of(want, have).next(now, want.timezone))
    return slot if want.closed_by(now) is None else want.opening(now)


def _undisputed(have: Observation, now: datetime) -> datetime:
    """No later than the latest of the others' clocks: a slot that ours alone says has come would count as done once it comes."""
    clocks = [catalogue.store_time - have.catalogues[name].at for name, catalogue in have.known().items()]
    if isinstance(have.source, Known):
        clocks.append(have.source.value.clock - have.source.at)
    ahead = -max(clocks)
    return now - ahead if ahead > SKEW else now


def newest_slot(want: DatabasePolicy, have: Observation, now: datetime) -> datetime | None:
    """The newest slot that counts as done: named by a manifest, a tombstone or a living intent, on any known target.

    A partial backup does it while the policy asks for a part: one that asks for the whole again would have none for long.
    One that lies ahead was named under a wrong clock. If it counted, no dump would be taken until then; nor, once it has come,
    does a backup from before it. Nor was any done that a tombstone named before it came: a thief may lay a year of them.
    """
    newest: datetime | None = None
    slack = _slack(have)
    parts = set() if want.asks_for_a_part else {backup.id for backup in have.backups() if backup.partial}

    def is_newer(slot: datetime | None) -> bool:
        return slot is not None and slot <= now and (newest is None or slot > newest)

    for catalogue in have.known().values():
        for copy in catalogue.copies:
            done = is_newer(copy.slot) and copy.id not in parts and copy.state in _DONE
            if done and _tells_itself(copy) and not _is_early(copy, slack):
                newest = copy.slot
        for stone in catalogue.tombstones:
            if is_newer(stone.slot) and stone.counts and stone.id not in parts and _had_come(stone, catalogue):
                newest = stone.slot
    return newest


def _had_come(stone: Tombstone, catalogue: Catalogue) -> bool:
    """Whether its slot had, when it was written."""
    came = catalogue.came.get(stone.id)
    return came is None or stone.slot is None or stone.slot <= came + SKEW


def _slack(have: Observation) -> timedelta | None:
    """So much earlier than its slot a backup's instant may be, which is the source's where that clock is behind ours.

    None: any time. What a standby or a branch holds may have been written long before; and of an unseen source nobody knows.
    """
    if not isinstance(have.source, Known) or have.source.value.standby or have.history is not None:
        return None
    return SKEW + max(timedelta(0), have.source.at - have.source.value.clock)


def _is_early(copy: Copy, slack: timedelta | None) -> bool:
    """Whether it holds what there was before its slot. Of one that is being written, nobody knows the instant yet."""
    if slack is None or copy.slot is None or copy.state == "being_written":
        return False
    return copy.slot > copy.instant + slack


_DONE = ("whole", "being_written", "deleted", "damaged")
"""States of a copy whose slot needs no other dump. Debris frees its own; of what is being deleted, the tombstone tells."""


def _tells_itself(copy: Copy) -> bool:
    """Whether its slot is not just its tombstone's."""
    return copy.state != "deleted" or copy.repository is not None


def plan_dump(
    want: DatabasePolicy,
    have: Observation,
    *,
    slot: datetime | None,
    kind: Kind = "scheduled",
    labels: Mapping[str, str] | None = None,
    keep_until: datetime | None = None,
) -> tuple[Step | None, Finding | None]:
    """The dump to take now, or why none can be. Also what `backups take` asks."""
    reached = [name for name in want.dumps.targets if name in have.known()]
    repository = repository_id(have)
    if repository is None and have.unknown():
        what = f"cannot begin: whether {', '.join(have.unknown())} already holds backups of {have.database} is unknown"
        return None, Finding(severity="error", where=have.database, what=what, cure="the first dump needs every target reachable")
    if not reached:
        what = "no dump can be taken: none of its targets can be reached"
        return None, Finding(severity="error", where=have.database, what=what)
    identity = expected_identity(have)
    if identity is None:
        return None, None  # The source is unknown, which is a finding already, and nothing was begun that names it.
    filters = filters_of(want)
    why = f"{kind}; {filters.says()}" if filters else kind
    action = TakeDump(
        database=have.database,
        target=reached[0],
        slot=slot,
        backup_kind=kind,
        repository=repository,
        identity=identity,
        filters=filters,
        labels=labels or {},
        keep_until=keep_until,
    )
    return Step(
        action=action, shown=Shown(does="take dump", to=f"→ {reached[0]}", why=why, expected_bytes=_usual_bytes(have))
    ), None


def _usual_bytes(have: Observation) -> int | None:
    """What the newest whole backup held, before compression."""
    copies = [
        copy for catalogue in have.known().values() for copy in catalogue.copies if copy.state == "whole" and copy.raw_bytes
    ]
    newest = max(copies, key=lambda copy: copy.instant, default=None)
    return newest.raw_bytes if newest else None


def expected_identity(have: Observation) -> Identity | None:
    """What the dump's session must find: what the catalogue was begun for, else what we saw ourselves."""
    kept = [catalogue.repository.identity for catalogue in have.known().values() if catalogue.repository is not None]
    if kept:
        return kept[0]
    return have.source.value.identity if isinstance(have.source, Known) else None


DUTY = Duty(name="dumps", lane="keep", due=due, actions=(TakeDump,))
