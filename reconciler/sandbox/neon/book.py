"""What is remembered, in memory and in one file: changed under a lock, and on disk, whole, before anybody hears of a change."""

import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, TypeVar
from uuid import UUID

import msgspec

from reconciler.sandbox.files import write_private
from reconciler.sandbox.neon.records import Action, Branch, Endpoint, Operation, Project, Snapshot, State, Timeline
from reconciler.sandbox.neon.refusals import busy, not_found
from reconciler.sandbox.neon.work import Work
from reconciler.world.clock import SystemClock, token

_KEPT_OPERATIONS = 500
"""Neon keeps them for six months."""
T = TypeVar("T", Branch, Endpoint, Snapshot, Operation, Timeline)


class Book:
    """The state, its lock, and the few ways to change it. `changed` is notified of each change."""

    def __init__(self, path: Path, state: State) -> None:
        self._path = path
        self.state = state
        self.changed = threading.Condition(threading.RLock())
        self._depth = 0

    @contextmanager
    def changing(self) -> Iterator[State]:
        """Hold the lock; on the way out the file is written. When the body raises, nothing of it has happened."""
        with self.changed:
            before = self.state if self._depth else _copy(self.state)
            self._depth += 1
            try:
                yield self.state
            except BaseException:
                if self._depth == 1:
                    self.state = before
                raise
            else:
                if self._depth == 1:
                    self._save()
            finally:
                self._depth -= 1

    def put(self, record: T) -> T:
        """Remember it, in place of what had its id."""
        with self.changing() as state:
            _shelf(state, record)[record.id] = record
        return record

    def drop(self, record: T) -> None:
        """Forget it."""
        with self.changing() as state:
            _shelf(state, record).pop(record.id, None)

    def edit(self, record: T, **changes: Any) -> T:
        """Remember it with those changes."""
        return self.put(msgspec.structs.replace(record, **changes))

    def edit_project(self, **changes: Any) -> Project:
        """The project with those changes."""
        with self.changing():
            project = msgspec.structs.replace(self.state.project, **changes, updated_at=now())
            self.state = msgspec.structs.replace(self.state, project=project)
            return project

    def branch(self, id_: str) -> Branch:
        """Raises Refusal for one that is not there, or was deleted."""
        branch = self.state.branches.get(id_)
        if branch is None or branch.deletion:
            raise not_found("branch", id_)
        return branch

    def branches(self) -> tuple[Branch, ...]:
        """Those that are not deleted, oldest first."""
        return tuple(branch for branch in self.state.branches.values() if not branch.deletion)

    def endpoint(self, id_: str) -> Endpoint:
        """Raises Refusal."""
        if found := self.state.endpoints.get(id_):
            return found
        raise not_found("endpoint", id_)

    def endpoint_of(self, branch: str) -> Endpoint | None:
        """The branch's compute, if it has one."""
        return next((endpoint for endpoint in self.state.endpoints.values() if endpoint.branch_id == branch), None)

    def snapshot(self, id_: str) -> Snapshot:
        """Raises Refusal."""
        if found := self.state.snapshots.get(id_):
            return found
        raise not_found("snapshot", id_)

    def children(self, branch: str) -> tuple[Branch, ...]:
        """The branches made of that one, deleted ones not."""
        return tuple(other for other in self.branches() if other.parent_id == branch)

    def line(self, timeline: str) -> tuple[Timeline, ...]:
        """The timeline, its parent, that one's, and so on."""
        found: list[Timeline] = []
        at: str | None = timeline
        while at is not None and (step := self.state.timelines.get(at)):
            found.append(step)
            at = step.parent
        return tuple(found)

    def is_busy(self) -> bool:
        """Whether any operation is under way."""
        return any(operation.is_open for operation in self.state.operations.values())

    def must_be_idle(self) -> None:
        """Raises Refusal while any operation is under way: they are serialised by project."""
        if self.is_busy():
            raise busy()

    def schedule(
        self, *steps: tuple[Action, Work], branch: str | None = None, endpoint: str | None = None
    ) -> tuple[Operation, ...]:
        """Put down what is to be done, in that order."""
        with self.changing() as state:
            request = token(6)
            made = tuple(
                Operation(
                    id=str(UUID(token(16), version=4)),
                    request=request,
                    action=action,
                    work=work,
                    branch_id=branch,
                    endpoint_id=endpoint if action in {"start_compute", "suspend_compute"} else None,
                    created_at=now(),
                    updated_at=now(),
                )
                for action, work in steps
            )
            for operation in made:
                state.operations[operation.id] = operation
            for old in list(state.operations)[:-_KEPT_OPERATIONS]:
                del state.operations[old]
        return made

    def wait(self, look: Callable[[], bool], *, seconds: float) -> bool:
        """Whether `look` says True within that time; it is asked after each change."""
        with self.changed:
            return self.changed.wait_for(look, timeout=seconds)

    def _save(self) -> None:
        write_private(self._path, msgspec.json.encode(self.state).decode())
        self.changed.notify_all()


def opened(path: Path, first: Callable[[], State]) -> Book:
    """The book in that file; begun with `first` when there is none."""
    if path.is_file():
        return Book(path, msgspec.json.decode(path.read_bytes(), type=State))
    book = Book(path, first())
    with book.changing():
        pass
    return book


def now() -> datetime:
    """The wall clock."""
    return SystemClock().now()


def later(seconds: float) -> datetime:
    """So many seconds from now."""
    return now() + timedelta(seconds=seconds)


def new_id(prefix: str) -> str:
    """A name of Neon's form: two words and a number."""
    return f"{prefix}quiet-hotel-{token(4)}"


def _copy(state: State) -> State:
    shelves = {name: dict(value) for name, value in msgspec.structs.asdict(state).items() if isinstance(value, dict)}
    return msgspec.structs.replace(state, **shelves)


def _shelf(state: State, record: T) -> dict[str, T]:
    shelves: Mapping[type, Any] = {
        Branch: state.branches,
        Endpoint: state.endpoints,
        Snapshot: state.snapshots,
        Operation: state.operations,
        Timeline: state.timelines,
    }
    found: dict[str, T] = shelves[type(record)]
    return found
