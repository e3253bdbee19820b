"""From the command line's arguments to a policy and its worlds."""

import subprocess
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path

import msgspec

from reconciler.cli.frame import Call
from reconciler.cli.progress import waited
from reconciler.connect import KINDS, Means, connect, open_target
from reconciler.errors import Finding, Refused
from reconciler.observe import left_behind
from reconciler.policy.loading import read
from reconciler.policy.model import DatabasePolicy, Policy
from reconciler.policy.secret import Surroundings
from reconciler.postgres.environment import child_environment
from reconciler.world.cache import FileCache, default_folder
from reconciler.world.clock import SystemClock, token
from reconciler.world.events import Tell
from reconciler.world.pool import ThreadPool
from reconciler.world.ports import World
from reconciler.world.process import SystemProcess

THREADS = 16
"""For looking at all sides at once; each is a socket that mostly waits."""


class Session(msgspec.Struct, frozen=True, kw_only=True):
    """A policy that was read, and what all its databases share."""

    policy: Policy
    means: Means
    databases: tuple[DatabasePolicy, ...]
    """Those that were asked for, in the policy's order."""

    def worlds(self, *, writable: bool) -> Iterator[tuple[DatabasePolicy, World]]:
        """Each database's world, opened when its turn comes."""
        for want in self.databases:
            yield want, connect(self.policy, want, self.means, writable=writable)

    def telling(self, tell: Tell) -> "Session":
        """The same, heard by that listener."""
        return msgspec.structs.replace(self, means=msgspec.structs.replace(self.means, tell=tell))

    def left_behind(self) -> tuple[Finding, ...]:
        """What the targets hold of databases that left the policy."""
        targets = {name: open_target(self.policy, name, self.means, writable=False)[0] for name in self.policy.targets}
        return left_behind(targets, self.policy.databases, self.means.pool)

    def database(self, name: str) -> DatabasePolicy:
        """By name. Raises Refused for one that is not in the policy."""
        return chosen(self.policy, [name])[0]

    def world_of(self, want: DatabasePolicy, *, writable: bool) -> World:
        """One database's world."""
        return connect(self.policy, want, self.means, writable=writable)


def open_session(call: Call, *, commit: bool = False) -> Session:
    """Raises BadPolicy with all its faults; Refused for a database that is not in it. `commit`: ask git where it stands.

    Until somebody else listens, only what is waited for is told.
    """
    path = Path(call.arguments.policy)
    policy = read(path, KINDS)
    means = Means(
        surroundings=Surroundings(base=path.resolve().parent, environ=call.environ, redactor=call.redactor),
        clock=SystemClock(),
        process=SystemProcess(),
        pool=ThreadPool(THREADS),
        cache=FileCache(default_folder(call.environ)),
        stop=call.stop,
        tell=partial(waited, call),
        token=token,
        git_commit=_git_commit(path) if commit else None,
    )
    return Session(policy=policy, means=means, databases=chosen(policy, call.arguments.database))


def chosen(policy: Policy, names: list[str]) -> tuple[DatabasePolicy, ...]:
    """Those with these names, or all where none is named. Raises Refused for one that is not in the policy."""
    for name in names:
        if name not in policy.databases:
            known = ", ".join(policy.databases)
            raise Refused(f'the policy has no database "{name}"', cure=f"it has {known}")
    return tuple(want for name, want in policy.databases.items() if not names or name in names)


def named_targets(session: Session, names: Sequence[str]) -> frozenset[str]:
    """Those. Raises Refused for one that none of the databases asked for has."""
    used = {name for want in session.databases for name in (*want.dumps.targets, want.home)}
    for name in names:
        if name not in used:
            raise Refused(f'none of these databases has a target "{name}"', cure=f"they have {', '.join(sorted(used))}")
    return frozenset(names)


def _git_commit(path: Path) -> str | None:
    """The commit that the policy stands at; None outside of git, or where the file differs from what is committed."""
    # A repository may name programs of its own for git to start: none of them gets the secrets of our environment.
    folder, name = path.resolve().parent, path.name
    try:
        changed = subprocess.run(
            ["git", "-C", folder, "status", "--porcelain", "--", name],  # noqa: S607 - git as the user has it
            capture_output=True, text=True, timeout=10, check=True, env=child_environment(None),
        )  # fmt: skip
        if changed.stdout:
            return None
        shown = subprocess.run(
            ["git", "-C", folder, "rev-parse", "HEAD"],  # noqa: S607 - git as the user has it
            capture_output=True, text=True, timeout=10, check=True, env=child_environment(None),
        )  # fmt: skip
    except (OSError, subprocess.SubprocessError):
        return None
    return shown.stdout.strip()
