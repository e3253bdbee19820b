"""Hooks beside an action: real programs, what they are told, and what comes of their failing."""

import os
import shutil
import signal
import stat
import subprocess
import sys
from contextlib import nullcontext
from pathlib import Path
from threading import Event, Thread

import msgspec
import pytest

from reconciler.duties import DUTIES
from reconciler.errors import ReconcilerError, Refused, Unreachable
from reconciler.hook_program import HookPrograms
from reconciler.planning.plan import Consent, Outcome
from reconciler.policy.model import DatabasePolicy, Hook, Hooks
from reconciler.policy.redaction import Redactor
from reconciler.policy.secret import Surroundings, Text
from reconciler.turn import turn
from reconciler.world.clock import SystemClock
from reconciler.world.ports import Clock, HookSeen, Occasion, World
from tests.backups.faking import FakeSource, MovedClock, make_world, states
from tests.building import HOUR, duration, policy, retention
from tests.postgres.processes import comes_true, is_running

BEFORE = Occasion(phase="before", of="dump", facts={"DATABASE": "hotel", "TARGET": "primary"})
AFTER = Occasion(phase="after", of="dump", facts={"DATABASE": "hotel", "RESULT": "done"})
SECRET = "gr8-s3cret-t0ken"
LONG = "x" * 300
"""Longer than a name in any folder."""
KEY = "-----BEGIN KEY-----\nabcdefgh12345678\nZZZZZZZZ99999999\n-----END KEY-----"


@pytest.fixture
def stop() -> Event:
    return Event()


@pytest.fixture
def hooks(tmp_path: Path, stop: Event) -> HookPrograms:
    return hook_programs(tmp_path, SystemClock(), stop)


def hook_programs(folder: Path, clock: Clock, stop: Event) -> HookPrograms:
    environ = {"PATH": os.environ["PATH"], "HOME": "/home/x", "DATABASE_URL": "postgres://u:pw@h/d", "TOKEN": SECRET, "KEY": KEY}
    surroundings = Surroundings(base=folder, environ=environ, redactor=Redactor())
    return HookPrograms("hotel", surroundings=surroundings, clock=clock, stop=stop)


class Leaping(SystemClock):
    """Ten minutes ahead once that file is there."""

    def __init__(self, file: Path) -> None:
        self._file = file

    def monotonic(self) -> float:
        return super().monotonic() + (600 if self._file.exists() else 0)


def script(folder: Path, text: str, name: str = "hook") -> str:
    """A program in the policy's folder, as argv names it."""
    file = folder / name
    file.write_text(f"#!/bin/sh\n{text}\n")
    file.chmod(file.stat().st_mode | stat.S_IXUSR)
    return f"./{name}"


def hook(*argv: str, **fields: object) -> Hook:
    return Hook(argv=argv, **fields)  # type: ignore[arg-type]  # fields of the struct


class TestRunning:
    def test_what_it_is_told(self, tmp_path: Path, hooks: HookPrograms) -> None:
        """It runs in the policy's folder, with what it is given by name, what it runs beside, and none of our secrets."""
        shell = "^_=\\|^PWD=\\|^SHLVL=\\|^OLDPWD=\\|^LC_CTYPE="
        name = script(tmp_path, f'cat > got; pwd > where; env | grep -v "{shell}" | sort > env; echo "$@" > argv')

        hooks.run(hook(name, "a b", "$HOME", env={"T": Text.parse("${TOKEN}")}, stdin=Text.parse("${TOKEN}")), BEFORE)

        assert SECRET == (tmp_path / "got").read_text()
        assert str(tmp_path) == (tmp_path / "where").read_text().strip()
        assert "a b $HOME\n" == (tmp_path / "argv").read_text()
        assert [
            "HOME=/home/x",
            f"PATH={os.environ['PATH']}",
            "RECONCILER_ACTION=dump",
            "RECONCILER_DATABASE=hotel",
            "RECONCILER_PHASE=before",
            "RECONCILER_TARGET=primary",
            f"T={SECRET}",
        ] == (tmp_path / "env").read_text().splitlines()

    def test_its_failure_tells_its_last_words_without_secrets(self, tmp_path: Path, hooks: HookPrograms) -> None:
        """Exit code and output, stdout and stderr alike; what was looked up is hidden, and never in argv."""
        name = script(tmp_path, 'echo noise; read token; echo jobs are busy; echo "token $token is wrong" >&2; exit 3')

        with pytest.raises(Unreachable) as failure:
            hooks.run(hook(name, stdin=Text.parse("${TOKEN}")), BEFORE)

        assert "hook ./hook before the dump failed: exit code 3: noise / jobs are busy / token *** is wrong" == str(failure.value)

    @pytest.mark.parametrize(
        ("text", "said"),
        [
            ("seq 1000; echo the disk is full", "999 / 1000 / the disk is full"),
            ("head -c 300000 /dev/zero | tr '\\0' x; printf '\\rthe disk is full'", "xxx / the disk is full"),
        ],
        ids=["many lines", "a long line"],
    )
    def test_last_words_after_many_others(self, tmp_path: Path, hooks: HookPrograms, text: str, said: str) -> None:
        """However much it said before: why it gave up stands at the end."""
        with pytest.raises(Unreachable) as failure:
            hooks.run(hook(script(tmp_path, f"{text}; exit 1")), BEFORE)

        assert str(failure.value).endswith(said)

    @pytest.mark.parametrize("text", ['echo "$K"', 'set -x; : "$K"', 'echo "$K" | tail -n 2', "head -c 4093 /dev/zero; echo $T"])
    def test_secrets_of_several_lines_and_in_long_ones(self, tmp_path: Path, hooks: HookPrograms, text: str) -> None:
        """Neither a part of a key nor the beginning of a token is ever told."""
        env = {"K": Text.parse("${KEY}"), "T": Text.parse("${TOKEN}")}

        with pytest.raises(Unreachable) as failure:
            hooks.run(hook(script(tmp_path, f"{text}; exit 1"), env=env), BEFORE)

        assert not any(piece in str(failure.value) for piece in (*KEY.splitlines()[1:3], SECRET[:3]))

    @pytest.mark.parametrize("start", ["", "setsid "], ids=["in its group", "in a session of its own"])
    @pytest.mark.parametrize("code", [0, 4])
    def test_what_it_started_in_the_background(self, tmp_path: Path, hooks: HookPrograms, start: str, code: int) -> None:
        """It is over when its program is, and what it started goes on: jobs that it resumed, a pause that ends by itself."""
        name = script(tmp_path, f"{start}sh -c 'echo $$ > pid.new; mv pid.new pid; sleep 300' & echo started; exit {code}")
        failure = nullcontext() if code == 0 else pytest.raises(Unreachable, match="failed: exit code 4: started")

        with failure:
            hooks.run(hook(name, timeout=duration("20s")), BEFORE)

        assert comes_true((tmp_path / "pid").exists)
        pid = int((tmp_path / "pid").read_text())
        assert is_running(pid)
        os.killpg(os.getpgid(pid), signal.SIGKILL)

    @pytest.mark.parametrize("text", ["exec /bin/true", "exec <&-; exec /bin/true", "sleep 0.2"])
    def test_one_that_does_not_read(self, tmp_path: Path, hooks: HookPrograms, text: str) -> None:
        """Not to care what stands on stdin is no failure."""
        hooks.run(hook(script(tmp_path, text), stdin=Text.parse("x" * 60_000)), BEFORE)

    @pytest.mark.parametrize(
        ("name", "why"),
        [
            ("./none", "{folder}/none is not there"),
            ("no-such-program", "there is no program 'no-such-program' in PATH, which is {path}"),
            ("./plain", "{folder}/plain may not be executed by this user"),
            ("./inner", "{folder}/inner is a folder"),
            ("./broken", "{folder}/broken is a link that leads nowhere"),
            ("./ring", "{folder}/ring is a link that leads nowhere"),
            ("./plain/x", "{folder}/plain/x is not there"),
            (f"./{LONG}", f"{{folder}}/{LONG} can't be looked at: File name too long"),
            (LONG, f"there is no program '{LONG}' in PATH, which is {{path}}"),
        ],
    )
    def test_no_such_program(self, tmp_path: Path, hooks: HookPrograms, name: str, why: str) -> None:
        """It is said what there is in its place, and what would help."""
        (tmp_path / "plain").write_text("not to be executed")
        (tmp_path / "inner").mkdir()
        (tmp_path / "broken").symlink_to("away")
        (tmp_path / "ring").symlink_to("ring")

        with pytest.raises(Refused) as failure:
            hooks.run(hook(name), BEFORE)

        said = why.format(folder=tmp_path, path=os.environ["PATH"])
        assert f"hook {name} before the dump can't be run: {said}" == str(failure.value)
        assert failure.value.cure

    @pytest.mark.parametrize("path", ["bin", "./bin:/usr/bin", "/nowhere:bin"])
    def test_a_path_that_is_relative(self, tmp_path: Path, hooks: HookPrograms, path: str) -> None:
        """It begins where the hook runs, wherever we run ourselves; the first that may be executed is taken."""
        (tmp_path / "bin").mkdir()
        script(tmp_path / "bin", "touch begun", "begin")

        hooks.run(hook("begin", env={"PATH": Text.parse(f"{path}:{os.environ['PATH']}")}), BEFORE)

        assert (tmp_path / "begun").exists()

    def test_a_reference_that_leads_nowhere(self, tmp_path: Path, hooks: HookPrograms) -> None:
        """The variable and the field are named; the program is not begun."""
        name = script(tmp_path, "touch begun")

        with pytest.raises(Refused, match=r"MISSING.*|databases\.hotel\.dumps\.hooks\.env\.T"):
            hooks.run(hook(name, env={"T": Text.parse("${MISSING}")}), BEFORE)

        assert not (tmp_path / "begun").exists()

    def test_its_timeout(self, tmp_path: Path, stop: Event) -> None:
        """It is ended with what it started, and the sentence says how long it was given."""
        name = script(tmp_path, "sleep 300 & echo $$ $! > pids.new; mv pids.new pids; wait")
        hooks = hook_programs(tmp_path, Leaping(tmp_path / "pids"), stop)

        with pytest.raises(Unreachable, match=r"before the dump took longer than its timeout allows, and was ended after 9m"):
            hooks.run(hook(name, timeout=duration("9m")), BEFORE)

        pids = [int(pid) for pid in (tmp_path / "pids").read_text().split()]
        assert comes_true(lambda: not any(is_running(pid) for pid in pids))

    def test_asked_to_stop(self, tmp_path: Path, hooks: HookPrograms, stop: Event) -> None:
        """What runs before an action ends at once; what runs after it still does its work."""
        waiting, working = script(tmp_path, "echo > begun; sleep 300"), script(tmp_path, "echo resumed > resumed", "after")
        Thread(target=lambda: stop.set() if comes_true((tmp_path / "begun").exists) else None, daemon=True).start()

        with pytest.raises(ReconcilerError, match="stopped while hook"):
            hooks.run(hook(waiting), BEFORE)
        assert stop.is_set()
        hooks.run(hook(working), AFTER)

        assert (tmp_path / "resumed").exists()

    def test_our_death(self, tmp_path: Path) -> None:
        """A kill -9 of ours ends the hook too."""
        name = script(tmp_path, "echo $$ > pid.new; mv pid.new pid; sleep 300")
        program = (
            "import sys, threading; from pathlib import Path; from reconciler.hook_program import *\n"
            "from reconciler.policy.redaction import Redactor; from reconciler.world.clock import SystemClock\n"
            "s = Surroundings(base=Path(sys.argv[1]), environ={'PATH': '/bin:/usr/bin'}, redactor=Redactor())\n"
            "h = HookPrograms('hotel', surroundings=s, clock=SystemClock(), stop=threading.Event())\n"
            "h.run(Hook(argv=(sys.argv[2],)), Occasion(phase='before', of='dump', facts={}))\n"
        )
        running = subprocess.Popen([sys.executable, "-c", program, str(tmp_path), name])
        assert comes_true((tmp_path / "pid").exists)
        pid = int((tmp_path / "pid").read_text())

        running.send_signal(signal.SIGKILL)
        running.wait(timeout=60)

        assert comes_true(lambda: not is_running(pid))


PROGRAMS = {
    "a script": b"#!/bin/sh\nexit 0\n",
    "with words": b"#! /bin/sh\t-e\nexit 0\n",
    "by env": b"#!/usr/bin/env sh\nexit 0\n",
    "by env with words": b"#!/usr/bin/env -S sh -e\nexit 0\n",
    "by a neighbour": b"#!neighbour\n",
}
UNFIT = {
    "no first line": (b"exit 0\n", "is text, and its first two bytes are not #!: only a shell would run it, and there is none"),
    "a mark before it": (b"\xef\xbb\xbf#!/bin/sh\n", "its first two bytes are not #!"),
    "empty": (b"", "is empty"),
    "no such shell": (b"#!/no/such/shell\n", "names in its first line what is to run it: /no/such/shell is not there"),
    "from Windows": (b"#!/bin/sh\r\nexit 0\r\n", "has the line ends of Windows"),
    "unknown to env": (b"#!/usr/bin/env no-such-shell\n", "there is no program 'no-such-shell' in PATH"),
    "no name": (b"#!\n", "is a folder"),
}
UNFIT_ON_LINUX = {"two words to env": (b"#!/usr/bin/env sh -e\n", "there is no program 'sh -e' in PATH")}


class TestLooking:
    """Without running it: what is found fault with fails when it runs, and what is not does not for that."""

    @pytest.fixture(autouse=True)
    def neighbour(self, tmp_path: Path) -> None:
        shutil.copy("/bin/sh", tmp_path / "neighbour")

    def program(self, folder: Path, content: bytes) -> Hook:
        script(folder, "")
        (folder / "hook").write_bytes(content)
        return hook("./hook")

    @pytest.mark.parametrize("content", PROGRAMS.values(), ids=list(PROGRAMS))
    def test_one_that_runs(self, tmp_path: Path, hooks: HookPrograms, content: bytes) -> None:
        fit = self.program(tmp_path, content)

        assert HookSeen(program=tmp_path / "hook", faults=()) == hooks.look(fit, "before[0]")
        hooks.run(fit, BEFORE)

    @pytest.mark.parametrize(("content", "why"), UNFIT.values(), ids=list(UNFIT))
    def test_one_that_does_not(self, tmp_path: Path, hooks: HookPrograms, content: bytes, why: str) -> None:
        unfit = self.program(tmp_path, content)

        (fault,) = hooks.look(unfit, "before[0]").faults

        assert why in fault.what
        assert fault.cure
        with pytest.raises(Unreachable, match=r"exit code 127"):
            hooks.run(unfit, BEFORE)

    @pytest.mark.skipif(sys.platform != "linux", reason="others split the first line")
    @pytest.mark.parametrize(("content", "why"), UNFIT_ON_LINUX.values(), ids=list(UNFIT_ON_LINUX))
    def test_one_that_does_not_on_linux(self, tmp_path: Path, hooks: HookPrograms, content: bytes, why: str) -> None:
        self.test_one_that_does_not(tmp_path, hooks, content, why)

    def test_a_program_of_the_system(self, hooks: HookPrograms) -> None:
        """It is looked for where the hook would be, and needs no first line."""
        assert HookSeen(program=Path(shutil.which("true") or ""), faults=()) == hooks.look(hook("true"), "before[0]")

    def test_one_in_a_path_of_its_own(self, tmp_path: Path, hooks: HookPrograms) -> None:
        """Where only something else of that name lies in PATH, that is said."""
        (tmp_path / "mine").write_text("#!/bin/sh\n")

        (fault,) = hooks.look(hook("mine", env={"PATH": Text.parse(str(tmp_path))}), "before[0]").faults

        assert f"{tmp_path}/mine may not be executed by this user" == fault.what

    def test_all_that_it_is_not_given(self, tmp_path: Path, hooks: HookPrograms) -> None:
        """Each by its place in the policy; what only a PATH would tell that isn't there is not said. Nothing is run."""
        name = script(tmp_path, "touch begun")
        env = {"A": Text.parse("${MISSING_A}"), "PATH": Text.parse("${MISSING_B}"), "T": Text.parse("${TOKEN}")}

        seen = hooks.look(hook(name, env=env, stdin=Text.parse({"file": "nowhere"})), "after[1]")

        at = "databases.hotel.dumps.hooks.after[1]"
        assert [
            f"{at}.env.A: the environment variable MISSING_A is not set or empty",
            f"{at}.env.PATH: the environment variable MISSING_B is not set or empty",
            f"{at}.stdin: cannot read {tmp_path}/nowhere: No such file or directory",
        ] == [fault.what for fault in seen.faults]
        assert not (tmp_path / "begun").exists()


@pytest.fixture
def clock() -> MovedClock:
    return MovedClock()


class TestBesideActions:
    """What runs when, in turns of a world of files: each hook writes a line."""

    @pytest.fixture
    def world(self, tmp_path: Path, clock: MovedClock, hooks: HookPrograms) -> World:
        return msgspec.structs.replace(make_world(tmp_path, clock), run_hook=hooks.run)

    @pytest.fixture
    def line(self, tmp_path: Path) -> str:
        told = "$RECONCILER_PHASE $RECONCILER_ACTION ${RECONCILER_TARGET:--} ${RECONCILER_RESULT:--}"
        return script(tmp_path, f'echo "$1 {told}" >> log; test "$1" != bad')

    def want(self, *, before: tuple[Hook, ...] = (), after: tuple[Hook, ...] = ()) -> DatabasePolicy:
        plain = policy("0 * * * *", ("primary", "offsite"), retention(grace="1h", keep_last=2))
        return msgspec.structs.replace(plain, dumps=msgspec.structs.replace(plain.dumps, hooks=Hooks(before=before, after=after)))

    def run(self, world: World, want: DatabasePolicy) -> list[Outcome]:
        return list(turn(world, want, DUTIES, Consent()).outcomes)

    def log(self, folder: Path) -> list[str]:
        return (folder / "log").read_text().splitlines() if (folder / "log").exists() else []

    def test_around_a_dump(self, tmp_path: Path, world: World, line: str) -> None:
        """In their order before it, in their order after it; beside nothing that they were not asked for."""
        want = self.want(before=(hook(line, "1"), hook(line, "2")), after=(hook(line, "3"), hook(line, "4")))

        outcomes = self.run(world, want)

        assert ["done", "done"] == [outcome.result for outcome in outcomes]
        assert [
            "1 before dump primary -",
            "2 before dump primary -",
            "3 after dump primary done",
            "4 after dump primary done",
        ] == self.log(tmp_path)

    def test_around_copies_and_prunes(self, tmp_path: Path, clock: MovedClock, world: World, line: str) -> None:
        """Each action has its own; which backup and which targets it is about is told."""
        want = self.want(before=(hook(line, "b", on=("copy", "prune")),), after=(hook(line, "a", on=("prune",)),))
        for _ in range(4):
            assert {"done"} == {outcome.result for outcome in self.run(world, want)}
            clock.move(HOUR)

        log = self.log(tmp_path)
        assert 4 == log.count("b before copy offsite -")
        assert log.count("b before prune offsite,primary -") == log.count("a after prune offsite,primary done") >= 1

    def test_one_before_it_fails(self, tmp_path: Path, world: World, line: str) -> None:
        """The action is not begun, and says which hook; the rest before it is skipped; what runs after it runs all the same."""
        want = self.want(before=(hook(line, "bad"), hook(line, "2")), after=(hook(line, "3"),))

        outcomes = self.run(world, want)

        assert ["failed"] == [outcome.result for outcome in outcomes]
        assert "hook ./hook before the dump failed: exit code 1" == outcomes[0].says
        assert ["bad before dump primary -", "3 after dump primary failed"] == self.log(tmp_path)
        assert {} == states(world, "primary")

    def test_the_action_fails(self, tmp_path: Path, clock: MovedClock, world: World, line: str) -> None:
        """What was paused is resumed."""
        source = FakeSource(clock, trouble="at the start")
        broken = msgspec.structs.replace(world, provider=_Hosting(source))

        outcomes = self.run(broken, self.want(before=(hook(line, "1"),), after=(hook(line, "2"),)))

        assert ["failed"] == [outcome.result for outcome in outcomes]
        assert ["1 before dump primary -", "2 after dump primary failed"] == self.log(tmp_path)

    def test_one_after_it_fails(self, tmp_path: Path, world: World, line: str) -> None:
        """The dump is there, and said to be; the hook is a failure of its own, and the others run."""
        outcomes = self.run(world, self.want(after=(hook(line, "bad"), hook(line, "2"))))

        assert [
            ("take dump → primary", "done"),
            ("hook after take dump → primary", "failed"),
            ("copy primary → offsite", "done"),
        ] == [(outcome.does, outcome.result) for outcome in outcomes]
        assert ["bad after dump primary done", "2 after dump primary done"] == self.log(tmp_path)
        assert ["whole"] == list(states(world, "primary").values())


class _Hosting(msgspec.Struct, frozen=True):
    opened: FakeSource
    domain: str = "host:db.internal"
    place: str = "fake db.internal/hotel"

    def source(self) -> FakeSource:
        return self.opened

    def history(self) -> None:
        return
