"""One database of the world → one observation. Reads only; all sides at once; what does not answer is Unknown."""

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from concurrent.futures import TimeoutError as Late
from contextlib import suppress
from datetime import datetime
from functools import partial
from typing import NamedTuple, TypeVar

import msgspec

from reconciler.backups.catalogue import Reader
from reconciler.backups.changes import read_windows
from reconciler.backups.claim import SILENT_SECONDS, Watch, read_claim
from reconciler.backups.layout import INTENT, object_key
from reconciler.backups.register import registered
from reconciler.errors import Absent, Finding, ReconcilerError
from reconciler.policy.model import DatabasePolicy
from reconciler.world.events import Waiting
from reconciler.world.evidence import Chain, joined
from reconciler.world.facts import Catalogue, Known, Observation, Observed, Unknown
from reconciler.world.history import Change, HistoryFacts
from reconciler.world.ports import Answer, Pool, Target, World

LIMIT_SECONDS = 120.0
"""For all sides together: the sockets' own limits are shorter, this one is for what they don't see."""

WORD_SECONDS = 5.0
"""After that it is told who is waited for: silence looks like a program that hangs."""

WATCH_SECONDS = 5.0
"""Between two looks at a claim whose owner may be dead."""

T = TypeVar("T")


def observe(world: World, want: DatabasePolicy, watch: Watch) -> Observation:
    """Never raises for a side that fails: that side is Unknown, with the reason and the cure."""
    source = world.pool.submit(lambda: _look(world, world.provider.source().facts))
    kept = world.provider.history()
    history = None if kept is None else world.pool.submit(partial(_look, world, kept.facts))
    catalogues = {name: world.pool.submit(_reader(world, want, watch, name)) for name in sorted(world.targets)}
    noted = {} if kept is None else {name: world.pool.submit(look) for name, look in _noted(world, want)}
    ends = world.clock.monotonic() + LIMIT_SECONDS
    seen_source = _gather(world, want, "the source", source, ends)
    seen_history = None if history is None else _gather(world, want, "the history", history, ends)
    seen = {name: _gather(world, want, name, future, ends) for name, future in catalogues.items()}
    return Observation(
        database=want.name,
        place=world.provider.place,
        source=seen_source,
        source_domain=world.provider.domain,
        catalogues=seen,
        domains=world.domains,
        evidence=_evidence(want, seen),
        history=None if seen_history is None else _history_with_memory(world, want, seen_history),
        windows={name: _gather(world, want, name, future, ends) for name, future in noted.items()},
    )


class Doubt(NamedTuple):
    """A claim of which nobody knows yet whether its owner lives."""

    target: str
    key: str
    backup: str


def observe_decided(world: World, want: DatabasePolicy, watch: Watch) -> Observation:
    """Looks until it is clear which writers and readers live: one that died elsewhere would keep its slot for ever."""
    ends = world.clock.monotonic() + SILENT_SECONDS + 10
    told = False
    while True:
        have = observe(world, want, watch)
        doubts = _doubts(have)
        if not doubts or world.clock.monotonic() >= ends:
            return have
        if not told:
            says = f"watching whether the writer or reader of {doubts[0].backup} lives (at most {SILENT_SECONDS:.0f} s)"
            world.tell(Waiting(database=want.name, says=says))
            told = True
        if not _watch(world, watch, doubts, ends):
            return have


def _doubts(have: Observation) -> list[Doubt]:
    writers = [
        Doubt(name, object_key(have.database, backup.id, INTENT), backup.id)
        for backup in have.backups()
        for name, copy in backup.copies.items()
        if copy.writer == "undecided"
    ]
    pins = ((name, pin) for name, catalogue in have.known().items() for pin in catalogue.pins)
    return writers + [Doubt(name, pin.key, pin.backup) for name, pin in pins if pin.writer == "undecided"]


def _watch(world: World, watch: Watch, doubts: Sequence[Doubt], ends: float) -> bool:
    """Until none is left, reading them alone; or until one can't be read. False where we are asked to stop."""
    while doubts and world.clock.monotonic() < ends:
        if world.clock.wait(WATCH_SECONDS, world.stop):
            return False
        try:
            doubts = [one for one in doubts if _is_undecided(world.targets[one.target], one.key, watch)]
        except ReconcilerError:
            break
    return True


def _is_undecided(target: Target, key: str, watch: Watch) -> bool:
    try:
        record, etag = read_claim(target, key)
    except Absent:
        return False
    return watch.is_gone(f"{target.name}:{key}", record, etag) is None


def _noted(world: World, want: DatabasePolicy) -> Iterator[tuple[str, Callable[[], Observed[tuple[Change, ...]]]]]:
    """Who else of the project's databases set its window, only their homes know."""
    site = want.history_site
    homes = world.homes or {want.home: world.targets[want.home]}
    if site is not None:
        for name, target in sorted(homes.items()):
            yield name, partial(_look, world, partial(read_windows, target, site, world.cache))


def _evidence(want: DatabasePolicy, seen: Mapping[str, Observed[Catalogue]]) -> Observed[Chain]:
    """As home holds it, with what it lost and another target of the same repository still has.

    While home is Unknown so is evidence: nobody knows what it says last.
    """
    home = seen[want.home]
    if isinstance(home, Unknown):
        return home
    ours = home.value.repository
    others = (one.value for name, one in sorted(seen.items()) if name != want.home and isinstance(one, Known))
    same = [one.evidence for one in others if one.repository is not None and (ours is None or one.repository.id == ours.id)]
    return Known(joined(home.value.evidence, same), home.at)


def left_behind(targets: Mapping[str, Target], databases: Collection[str], pool: Pool) -> tuple[Finding, ...]:
    """Databases that these targets hold and the policy no longer names. What can't be seen is another finding's matter."""
    seen = {name: pool.submit(partial(registered, target)) for name, target in sorted(targets.items())}
    where: dict[str, list[str]] = {}
    for name, future in seen.items():
        with suppress(ReconcilerError):
            for database in future.result():
                where.setdefault(database, []).append(name)
    return tuple(
        Finding(
            severity="note",
            where=database,
            what=f"left the policy; its backups on {', '.join(names)} stay untouched, and nobody judges them",
            cure=f"`reconcile forget {database}` ends this note",
        )
        for database, names in sorted(where.items())
        if database not in databases
    )


def _reader(world: World, want: DatabasePolicy, watch: Watch, name: str) -> Callable[[], Observed[Catalogue]]:
    reader = Reader(world.targets[name], want.name, pool=world.pool, cache=world.cache, watch=watch, signatures=world.signatures)
    return lambda: _with_memory(world, want, name, _look(world, lambda: reader.read(world.clock.now())))


def _with_memory(world: World, want: DatabasePolicy, name: str, seen: Observed[Catalogue]) -> Observed[Catalogue]:
    """What can't be seen now is judged by what was seen last, as long as the cache remembers. Nothing else rests on that."""
    newest = seen.at
    if isinstance(seen, Known):
        whole = (copy.instant for copy in seen.value.copies if copy.state == "whole" and not copy.partial)
        newest = max(whole, default=seen.at)
    return _remembering(world, f"newest restore point\n{world.targets[name].place}\n{want.name}", seen, newest)


def _history_with_memory(world: World, want: DatabasePolicy, seen: Observed[HistoryFacts]) -> Observed[HistoryFacts]:
    """The same of what the provider keeps."""
    newest = seen.value.latest if isinstance(seen, Known) else seen.at
    return _remembering(world, f"newest restore point\n{world.provider.place}\n{want.name}", seen, newest)


def _remembering(world: World, key: str, seen: Observed[T], newest: datetime) -> Observed[T]:
    """An Unknown with what was seen last, or when it was first looked for in vain. `newest`: of what is Known."""
    last = _instant(world.cache.get(key))
    if isinstance(seen, Known):
        if newest != last:
            world.cache.put(key, newest.isoformat().encode())
        return seen
    if last is None:
        world.cache.put(key, seen.at.isoformat().encode())
    return msgspec.structs.replace(seen, last=last or seen.at)


def _instant(text: bytes | None) -> datetime | None:
    """What the cache spoilt is forgotten."""
    try:
        found = datetime.fromisoformat(text.decode()) if text else None
    except ValueError:
        return None
    return found if found is not None and found.tzinfo is not None else None


def _look(world: World, read: Callable[[], T]) -> Observed[T]:
    """The one place of observing where a failure becomes an Unknown."""
    # When it began: a store's clock is told at the start of a listing, and what comes after may take long.
    began = world.clock.now()
    try:
        value = read()
    except ReconcilerError as error:
        return Unknown(reason=error.what, cure=error.cure, at=world.clock.now())
    except Exception as error:  # noqa: BLE001 - a bug on one side must not blind us to the others
        return Unknown(reason=f"unforeseen {type(error).__name__}: {error}", cure="please report this", at=world.clock.now())
    return Known(value, began)


def _gather(world: World, want: DatabasePolicy, name: str, future: Answer[Observed[T]], ends: float) -> Observed[T]:
    left = max(0.0, ends - world.clock.monotonic())
    with suppress(Late):
        return future.result(timeout=min(left, WORD_SECONDS))
    if left > WORD_SECONDS:
        says = f"waiting for an answer from {name}, for {left:.0f} s at most"
        world.tell(Waiting(database=want.name, says=says))
        with suppress(Late):
            return future.result(timeout=left - WORD_SECONDS)
    return Unknown(reason=f"no answer within {LIMIT_SECONDS:.0f} s", at=world.clock.now())
