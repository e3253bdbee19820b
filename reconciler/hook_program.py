"""Runs a hook: a program of the policy's author, with what the policy gives it and nothing else. Named by `connect` alone."""

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import timedelta
from threading import Event

from reconciler.errors import Refused, Unreachable
from reconciler.hook_search import Scene, check_start, find
from reconciler.policy.model import Hook
from reconciler.policy.secret import Reference, Surroundings, Text
from reconciler.postgres.child import Child
from reconciler.postgres.flow import Limit, Watch, write_block
from reconciler.world.ports import Clock, HookSeen, Occasion

INHERITED = ("PATH", "HOME", "LANG", "LC_ALL", "TMPDIR", "TZ", "USER")
"""Of our own environment, which holds the secrets that the policy refers to: a hook gets those that it is given by name."""
PREFIX = "RECONCILER_"
STOPPING = timedelta(seconds=10)
"""When we are asked to stop, what runs after an action still runs, for that long: somebody's jobs are to be resumed."""
TOLD_LINES, TOLD_LETTERS = 3, 300
LINE_LETTERS = 8
"""A line of a value that has as many is hidden by itself, too: a program may repeat any one of a key's."""


class HookPrograms:
    """Runs hooks in the policy's folder. One that runs ends with us, however we end, and with it what it started in its group;
    what one left behind that has ended goes on."""

    def __init__(self, database: str, *, surroundings: Surroundings, clock: Clock, stop: Event) -> None:
        self._database, self._surroundings, self._clock, self._stop = database, surroundings, clock, stop

    def run(self, hook: Hook, occasion: Occasion) -> None:
        """To its end. Raises Unreachable where it fails or takes too long, Refused where a reference leads nowhere, Stopped."""
        doing = f"hook {hook.argv[0]} {occasion.phase} the {occasion.of}"
        stdin = self._value(hook.stdin, "stdin") if hook.stdin is not None else ""
        environment = self._environment(hook, occasion)
        try:
            program = find(hook.argv[0], self._scene(environment))
        except Refused as error:
            raise Refused(f"{doing} can't be run: {error.what}", cure=error.cure) from error
        watch = self._watch(hook, occasion, doing)
        child = Child([str(program), *hook.argv[1:]], environment=environment, heard=True, folder=self._surroundings.base)
        try:
            _feed(child, stdin.encode(), watch)
            code = child.finish(watch.check)
        finally:
            child.end()
        if code != 0:
            how = f"exit code {code}" if code > 0 else f"ended by signal {-code}"
            said = self._told(child.complaints)
            raise Unreachable(f"{doing} failed: {how}{said and ': '}{said}", cure="look at what it does; it will be tried again")

    def look(self, hook: Hook, place: str) -> HookSeen:
        """What would keep it from running, without running it. `place`: where it stands, as `before[0]`. Never raises."""
        faults: list[Refused] = []
        given: dict[str, str] = {}
        for name, value in hook.env.items():
            with _noted(faults):
                given[name] = self._value(value, f"{place}.env.{name}")
        if hook.stdin is not None:
            with _noted(faults):
                self._value(hook.stdin, f"{place}.stdin")
        program = None
        if "PATH" in given or "PATH" not in hook.env:
            scene = self._scene({**self._inherited(), **given})
            with _noted(faults):
                program = find(hook.argv[0], scene)
                check_start(program, scene)
        return HookSeen(program=program, faults=tuple(faults))

    def _scene(self, environment: Mapping[str, str]) -> Scene:
        return Scene(folder=self._surroundings.base, path=environment.get("PATH", os.defpath))

    def _environment(self, hook: Hook, occasion: Occasion) -> Mapping[str, str]:
        facts = {**occasion.facts, "PHASE": occasion.phase, "ACTION": occasion.of}
        given = {name: self._value(value, f"env.{name}") for name, value in hook.env.items()}
        return {**self._inherited(), **given, **{PREFIX + name: value for name, value in facts.items()}}

    def _inherited(self) -> Mapping[str, str]:
        ours = self._surroundings.environ
        return {name: ours[name] for name in INHERITED if name in ours}

    def _value(self, value: Text, field: str) -> str:
        """What was looked up may be a secret, and is hidden wherever the program repeats it."""
        found = value.reveal(self._surroundings, field=f"databases.{self._database}.dumps.hooks.{field}")
        if isinstance(value.written, Reference):
            lines = [line.strip() for line in found.splitlines()]
            for secret in (found, *(line for line in lines if len(line) >= LINE_LETTERS)):
                self._surroundings.redactor.learn(secret)
        if "\0" in found:
            raise Refused(f"databases.{self._database}.dumps.hooks.{field} holds a zero byte, which no program can be given")
        return found

    def _watch(self, hook: Hook, occasion: Occasion, doing: str) -> Watch:
        limit = Limit(hook.timeout, "its timeout")
        if occasion.phase == "before":
            return Watch(self._clock, self._stop, None, doing, limit=limit)
        return _Lasting(self._clock, self._stop, doing, limit)

    def _told(self, complaints: str) -> str:
        """The last of its words, on one line. What is hidden may go over several of theirs."""
        lines = [line.strip() for line in self._surroundings.redactor.redact(complaints).splitlines() if line.strip()]
        return " / ".join(lines[-TOLD_LINES:])[-TOLD_LETTERS:]


class _Lasting(Watch):
    """Of what runs after an action: asked to stop, it may go on for a moment."""

    def __init__(self, clock: Clock, stop: Event, doing: str, limit: Limit) -> None:
        super().__init__(clock, Event(), None, doing, limit=limit)
        self._clock, self._asked, self._doing = clock, stop, doing
        self._asked_at: float | None = None

    def check(self) -> None:
        super().check()
        if self._asked.is_set():
            now = self._clock.monotonic()
            self._asked_at = now if self._asked_at is None else self._asked_at
            if now - self._asked_at > STOPPING.total_seconds():
                raise Unreachable(
                    f"{self._doing} was ended: we were asked to stop, and it did not end within {STOPPING.seconds} s"
                )


@contextmanager
def _noted(faults: list[Refused]) -> Iterator[None]:
    try:
        yield
    except Refused as error:
        faults.append(error)


def _feed(child: Child, text: bytes, watch: Watch) -> None:
    """All of it, unless the program doesn't care to read."""
    os.set_blocking(child.stream, False)
    with suppress(BrokenPipeError):
        write_block(child.stream, text, watch)
    child.close_input()
