"""What every command shares: options, the policy, output that passes the redactor, errors as sentences."""

import argparse
import os
import shlex
import signal
import sys
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from threading import Event as StopEvent
from threading import Thread
from types import FrameType
from typing import TYPE_CHECKING, Any, NoReturn, Protocol

from reconciler.cli.fitting import Only, misfit
from reconciler.cli.naming import complete
from reconciler.cli.streams import as_json_for
from reconciler.errors import BadPolicy, Finding, ReconcilerError, Refused, Stopped
from reconciler.policy.redaction import Redactor
from reconciler.postgres.environment import forget_libpq_environment

if TYPE_CHECKING:
    from reconciler.cli.log import Log

DEFAULT_POLICY = "backup-policy.yaml"
LEAVE_SECONDS = 10.0
"""Who was asked to stop and has not by then waits for somebody who may never answer. Supervisors kill after as long or longer."""
SHOW_CURSOR = "\x1b[?25h"
"""A bar hides it."""


class Command(Protocol):
    """A module of this folder."""

    __doc__: str | None

    def register(self, parser: argparse.ArgumentParser) -> None:
        """Its options. Which of them don't always fit, it says in `FITS`, where it has one."""

    def run(self, call: "Call") -> int:
        """Does it; the exit code."""


class Call:
    """One call of the program: its arguments, surroundings and the two streams."""

    def __init__(
        self, arguments: argparse.Namespace, environ: Mapping[str, str], redactor: Redactor, words: Sequence[str] = ()
    ) -> None:
        self.arguments = arguments
        self.words = tuple(words)
        """As they were typed, the command first."""
        self.environ = environ
        self.redactor = redactor
        self.stop = StopEvent()
        self.log: Log | None = None
        """Where remarks and progress go, if not to people."""

    @property
    def json(self) -> bool:
        return bool(self.arguments.format == "json")

    def another(self, *words: str) -> str:
        """How to type another command for the same policy."""
        return " ".join(part for part in (shlex.join(["reconcile", *words]), self._policy) if part)

    @property
    def _policy(self) -> str:
        return "" if self.arguments.policy == DEFAULT_POLICY else shlex.join(["-p", self.arguments.policy])

    def for_people(self, text: str) -> str:
        """Without secrets, and with the policy that we were given in the commands that it names: it is to be copied from."""
        return self.redactor.redact(complete(text, self._policy))

    def answer(self, text: str) -> None:
        """To stdout: what was asked for. Raises Refused where it takes nothing, BrokenPipeError where nobody reads it."""
        self._print(self.for_people(text))

    def answer_json(self, value: Any) -> None:
        """To stdout, pretty, with a schema in `schemas/`."""
        import msgspec

        self.answer_as_json(msgspec.json.format(msgspec.json.encode(value), indent=2).decode())

    def answer_as_json(self, text: str) -> None:
        """To stdout, what is JSON already."""
        # Redacted first: of a secret that is escaped nobody would know.
        self._print(as_json_for(sys.stdout, self.redactor.redact(text)))

    def say(self, text: str) -> None:
        """To stderr: progress and remarks."""
        if self.log is not None:
            self.log.said(text)
        else:
            self._tell(text)

    def fail(self, what: str, cure: str = "") -> None:
        """To stderr: why it ends."""
        if self.log is not None:
            self.log.failed(what, cure)
        else:
            self._tell(f"reconcile: {what}" + (f"\n  {cure}" if cure else ""))

    def open_log(self) -> None:
        """From now on, what goes to stderr is one JSON object a line."""
        from reconciler.cli.log import Log
        from reconciler.world.clock import SystemClock

        self.log = Log(lambda line: self._write(as_json_for(sys.stderr, line)), self.redactor.redact, SystemClock())

    @staticmethod
    def _print(text: str) -> None:
        try:
            sys.stdout.write(text if text.endswith("\n") else text + "\n")
            sys.stdout.flush()
        except BrokenPipeError:
            raise
        except OSError as error:
            _give_up_stdout()
            cure = "make room there, or let stdout lead elsewhere; what was done stays done"
            raise Refused(f"cannot write the answer: {error.strerror}", cure=cure) from error

    def _tell(self, text: str) -> None:
        from reconciler.planning.text import plain

        # What an error repeats may be a stranger's: the reason of a hold, a name, an answer of a server.
        self._write(self.for_people("\n".join(map(plain, text.split("\n")))) + "\n")

    @staticmethod
    def _write(text: str) -> None:
        sys.stderr.write(text)
        sys.stderr.flush()


class Parser(argparse.ArgumentParser):
    """Bad usage is exit code 1, and one sentence."""

    def error(self, message: str) -> NoReturn:
        """Ends the program."""
        raise SystemExit(f"{self.prog}: {message}\n  see `{self.prog} --help`")


def run(name: str, command: Command, rest: Sequence[str]) -> int:
    """One command, from its words to its exit code."""
    redactor = Redactor()
    redactor.learn_typed(rest)
    try:
        arguments = typed(name, command, rest)
    except SystemExit as leaving:
        if isinstance(leaving.code, str):
            print(redactor.redact(leaving.code), file=sys.stderr)
            return 1
        return int(leaving.code or 0)
    call = Call(arguments, dict(os.environ), redactor, [name, *rest])
    if arguments.log_format == "json":
        call.open_log()
    forget_libpq_environment()
    with _signals(call):
        return _guarded(command.run, call)


def typed(name: str, command: Command, rest: Sequence[str]) -> argparse.Namespace:
    """The options of a command. Raises SystemExit with a sentence for what makes no sense, also for an option that has no use."""
    parser = Parser(
        prog=f"reconcile {name}",
        description=command.__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    rules: Sequence[Only] = getattr(command, "FITS", ())
    _shared(parser, {option for rule in rules if not rule.ever for option in rule.options})
    command.register(parser)
    arguments = parser.parse_args(rest)
    # Once more without defaults: what is then there was typed.
    bare = parser.parse_args(rest, argparse.Namespace(**dict.fromkeys(vars(arguments))))
    given = frozenset(name for name, value in vars(bare).items() if value is not None)
    wrong = misfit(rules, arguments, given)
    if wrong is not None:
        parser.error(wrong)
    return arguments


def _shared(parser: argparse.ArgumentParser, useless: Collection[str] = ()) -> None:
    """`useless`: what this command has no use for, and refuses in a sentence of its own; its help is silent about them."""
    shared = parser.add_argument_group("everywhere")
    formats = ("text", "json")

    def told(option: str, text: str) -> str:
        return argparse.SUPPRESS if option in useless else text

    policy = told("--policy", f"the policy (default: {DEFAULT_POLICY})")
    shared.add_argument("-p", "--policy", metavar="FILE", default=DEFAULT_POLICY, help=policy)
    database = told("--database", "only this database (may be repeated)")
    shared.add_argument("--database", metavar="NAME", action="append", default=[], help=database)
    answer = told("--format", "how the answer is written (default: text)")
    shared.add_argument("--format", choices=formats, default="text", help=answer)
    log = "how progress and remarks are written to stderr: for people, or one JSON object a line (default: text)"
    shared.add_argument("--log-format", choices=formats, default="text", help=log)


def _guarded(work: Callable[[Call], int], call: Call) -> int:
    """Errors become sentences here; a traceback is a bug, and shown on demand only."""
    try:
        return work(call)
    except BadPolicy as error:
        report_faults(call, error.findings, Path(call.arguments.policy))
    except Stopped as error:
        # What a restore left in somebody's database is nobody's but theirs to drop: the cure says so.
        call.fail("stopped" if error.left_a_part else "stopped; what is left of it, the next run clears away", error.cure)
    except ReconcilerError as error:
        call.fail(error.what, error.cure)
    except BrokenPipeError:
        # Whoever read our answer has left: there is nobody to tell.
        _give_up_stdout()
    except Exception as error:
        if call.environ.get("RECONCILE_DEBUG"):
            raise
        call.fail(f"this is a bug: {type(error).__name__}: {error}", "please report it with RECONCILE_DEBUG=1 set")
    return 1


def _give_up_stdout() -> None:
    """What it still keeps would fail once more at the end."""
    sys.stdout = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115, PTH123 - lives until the end


def report_faults(call: Call, findings: Sequence[Finding], path: Path) -> None:
    """All of them, in columns, and how many."""
    from reconciler.planning.text import counted, plain

    width = max((len(finding.where) for finding in findings), default=0)
    for finding in findings:
        if call.log is not None:
            call.log.failed(f"{finding.where}  {finding.what}", finding.cure)
        else:
            cure = f"; {finding.cure}" if finding.cure else ""
            call.say(f"{plain(finding.where):<{width}}  {plain(finding.what)}{plain(cure)}")
    call.say(f"{counted(len(findings), 'fault')} in {path}")


@contextmanager
def _signals(call: Call) -> Iterator[None]:
    """SIGTERM, Ctrl-C and a lost terminal ask to stop: at the next chunk the work ends, cleaning up. A second ends it at once."""
    asked, ask = os.pipe()
    over = StopEvent()
    heeding = Thread(target=_heed, args=(call, asked, over), name="signals", daemon=True)
    heeding.start()

    def note(number: int, _: FrameType | None) -> None:
        # Nothing that takes a lock: this runs between any two steps of the main thread, which may hold it.
        os.write(ask, b"!")
        # A terminal that goes away is told by the shell and by the kernel: that is one asking, not two.
        if number != signal.SIGHUP:
            signal.signal(number, signal.SIG_DFL)

    numbers = [signal.SIGTERM, signal.SIGINT]
    # Who started us under nohup wants us to outlive the terminal.
    if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:
        numbers.append(signal.SIGHUP)
    before = [signal.signal(number, note) for number in numbers]
    try:
        yield
    finally:
        for number, handler in zip(numbers, before, strict=True):
            signal.signal(number, handler)
        over.set()
        os.close(ask)
        heeding.join()
        os.close(asked)


def _heed(call: Call, asked: int, over: StopEvent) -> None:
    if not os.read(asked, 1):
        return
    call.stop.set()
    if over.wait(LEAVE_SECONDS):
        return
    call.fail(
        f"stopped; what was under way did not end within {LEAVE_SECONDS:g} s, and was left as it was",
        "nothing is lost by that: the next run clears it away",
    )
    if sys.stderr.isatty():
        sys.stderr.write(SHOW_CURSOR)
        sys.stderr.flush()
    os._exit(1)
