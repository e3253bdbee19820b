"""`reconcile`: finds the command, runs it, and turns what it raises into a sentence and an exit code.

`--help` imports the standard library only: everything else is imported by the command that needs it.
"""

import os
import sys
from collections.abc import Sequence
from importlib import import_module

from reconciler.cli.streams import ready

COMMANDS = {
    "plan": "show what is missing and what is too much (same as --plan)",
    "apply": "make it true (same as --apply)",
    "status": "how the objectives stand",
    "validate": "check the policy, and show when its schedules fire next",
    "doctor": "try whether tools, source and targets are as they must be",
    "backups": "list, show, take, fetch and restore backups",
    "keys": "make the keys that backups are encrypted or signed with",
    "freeze": "stop every deletion of a database",
    "unfreeze": "let deletions go on",
    "adopt": "take over the backups of a database that changed its identity",
    "forget": "stop reporting what left the policy (deletes nothing)",
    "init": "write a first policy",
    "schema": "print the JSON schemas of the policy and of all output",
    "sandbox": "a real PostgreSQL, a real S3 server and a Neon to try it on",
}
ALIASES = {"--plan": "plan", "--apply": "apply"}
TAKES_VALUE = ("-p", "--policy", "--database", "--format", "--log-format")

HELP = """usage: reconcile COMMAND [options]

Declares in a file what "backed up" means for each PostgreSQL database, and makes it true.

commands:
{commands}

everywhere:
  -p, --policy FILE     the policy (default: backup-policy.yaml)
  --database NAME       only this database (may be repeated)
  --format text|json    how the answer is written
  --log-format text|json  how progress and remarks are written
  --version             print the version

examples:
  reconcile validate                      is the policy right, and when does it fire?
  reconcile --plan                        what would be done? (changes nothing)
  reconcile --apply                       show it, ask, do it
  reconcile --apply --yes                 do it without asking (cron, CI)
  reconcile backups list

exit codes: 0 done · 1 could not · 2 changes are due (plan --detailed-exitcode) · 3 a safety rule blocks something,
or an objective fails (--fail-on)

`reconcile COMMAND --help` tells more."""


def main(argv: Sequence[str] | None = None) -> int:
    """The program. Returns its exit code; the only output on stdout is the answer."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    command, rest = split(arguments)
    if command is None:
        return _without_command(rest)
    from reconciler.cli.frame import run

    return run(command, import_module(f"reconciler.cli.{command}"), rest)


def split(arguments: Sequence[str]) -> tuple[str | None, list[str]]:
    """The command's name, and everything else in order. Options may stand before it."""
    value_next = False
    for index, word in enumerate(arguments):
        if value_next:
            value_next = False
        elif word in TAKES_VALUE:
            value_next = True
        elif word in ALIASES or not word.startswith("-"):
            name = ALIASES.get(word, word)
            if name in COMMANDS:
                return name, [*arguments[:index], *arguments[index + 1 :]]
            return None, [word]
    return None, list(arguments)


def _without_command(rest: Sequence[str]) -> int:
    if "--version" in rest:
        from reconciler import __version__

        print(__version__)
        return 0
    if not rest or any(word in ("-h", "--help", "help") for word in rest):
        width = max(map(len, COMMANDS))
        print(HELP.format(commands="\n".join(f"  {name:<{width}}  {says}" for name, says in COMMANDS.items())))
        return 0
    return _unknown(rest[0])


def _unknown(word: str) -> int:
    from difflib import get_close_matches

    from reconciler.policy.redaction import Redactor

    redactor = Redactor()
    redactor.learn_typed([word])
    near = get_close_matches(word, COMMANDS, n=1)
    hint = f'; did you mean "{near[0]}"?' if near else f"; the commands are {', '.join(COMMANDS)}"
    kind = "option" if word.startswith("-") else "command"
    print(redactor.redact(f'reconcile: unknown {kind} "{word}"{hint}'), file=sys.stderr)
    return 1


def script() -> None:
    """The console script. Leaves at once: a socket that hangs in a thread must not keep the program from ending."""
    ready()
    try:
        code = main()
        sys.stdout.flush()
    except BrokenPipeError:
        # Whoever read our answer has left: there is nobody to tell.
        code = 1
    except KeyboardInterrupt:
        # While the command is still being imported; what runs takes Ctrl-C for a wish to stop.
        print("reconcile: stopped", file=sys.stderr)
        code = 1
    except OSError as error:
        # Only a file that is opened has a name: this is stdout, to which the help is written.
        if error.filename is not None:
            raise
        print(f"reconcile: cannot write the answer: {error.strerror}", file=sys.stderr)
        code = 1
    sys.stderr.flush()
    os._exit(code)


if __name__ == "__main__":
    script()
