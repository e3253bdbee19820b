"""A real PostgreSQL, a real S3 server and a Neon on this machine, to try things on: no root, container or account needed.

examples:
  reconcile sandbox up                     start them, make a hotel database to protect
  reconcile sandbox status --format json   where they are, and the keys to them
  reconcile sandbox down                   end them, keep their data
  reconcile sandbox down --purge           end them, delete their data
  reconcile sandbox fault locked --times 3 let Neon's next three requests be refused, as while operations run

For trying and testing only. Everything listens on 127.0.0.1. `status` exits with 1 unless all run.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import urlsplit

from reconciler.cli.fitting import NO_DATABASE, Only
from reconciler.cli.frame import Call
from reconciler.cli.values import number, whole_number
from reconciler.errors import Refused
from reconciler.sandbox.neon.faults import KINDS, OF_OPERATIONS
from reconciler.sandbox.status import NeonStatus, PostgresStatus, S3Status, Status

_NEXT = """
next:
  reconcile --plan            what is missing
  reconcile sandbox down      end the servers (--purge: delete their data too)"""

WAITING = ("slow", "timeout", "limited", "lag")
"""Faults of so many seconds."""
FITS = (
    NO_DATABASE,
    Only(("--policy",), "a sandbox beside it, and --dir says where it is", lambda typed: typed.dir is None),
    Only(("--purge",), "`sandbox down`", lambda typed: typed.action == "down"),
    Only(
        ("KIND", "--times", "--seconds", "--http-status", "--method", "--path"),
        "`sandbox fault`",
        lambda typed: typed.action == "fault",
    ),
    Only(("--times",), "a fault, and none is to come any more", lambda typed: typed.kind != "none"),
    Only(("--seconds",), f"the faults {', '.join(WAITING)}", lambda typed: typed.kind in WAITING),
    Only(("--http-status",), "the fault broken", lambda typed: typed.kind == "broken"),
    Only(("--path",), "faults of requests and operations", lambda typed: typed.kind not in {"none", "lag"}),
    Only(("--method",), "faults of requests", lambda typed: typed.kind not in {"none", "lag", *OF_OPERATIONS}),
)


def register(parser: argparse.ArgumentParser) -> None:
    """Its options."""
    parser.add_argument("action", choices=("up", "down", "status", "fault"), help="start, end, look, or let Neon's API fail")
    parser.add_argument("kind", nargs="?", choices=(*KINDS, "none"), help="with fault: what goes wrong; none: nothing any more")
    parser.add_argument("--times", metavar="N", type=whole_number(1, 1000), default=1, help="with fault: how often (default: 1)")
    parser.add_argument(
        "--seconds", metavar="S", type=number(0, 3600), default=1.0, help="with fault: how slow, or when to come again"
    )
    parser.add_argument(
        "--http-status", metavar="CODE", type=whole_number(400, 599), default=503, help="with fault broken: which (default: 503)"
    )
    parser.add_argument("--method", default="", help="with fault: of such requests alone, e.g. POST")
    parser.add_argument("--path", default="", help="with fault: where the path, or the operation's action, contains this alone")
    parser.add_argument("--dir", metavar="FOLDER", type=Path, help="where it lives (default: .sandbox beside the policy)")
    parser.add_argument("--purge", action="store_true", help="with down: delete the data as well")


def run(call: Call) -> int:
    """Start, end, look, or let fail."""
    folder: Path = call.arguments.dir or Path(call.arguments.policy).parent / ".sandbox"
    if call.arguments.action == "fault" and call.arguments.kind is None:
        raise Refused("fault needs a kind of fault", cure=f"one of {', '.join(KINDS)}, or none")
    actions = {"up": _up, "down": _down, "status": _status, "fault": _fault}
    return actions[call.arguments.action](call, folder)


def _up(call: Call, folder: Path) -> int:
    from reconciler.sandbox.up import up

    stands = up(folder, tell=call.say)
    _answer(call, stands, f"{_table(stands)}\n{_NEXT}")
    return 0


def _down(call: Call, folder: Path) -> int:
    from reconciler.sandbox.down import down
    from reconciler.sandbox.status import status

    ran = down(folder, purge=call.arguments.purge)
    said = "ended the servers" if ran else "nothing ran"
    kept = "; the data is deleted" if call.arguments.purge else "; the data is kept, `reconcile sandbox up` goes on with it"
    _answer(call, status(folder), said + kept)
    return 0


def _status(call: Call, folder: Path) -> int:
    from reconciler.sandbox.status import status

    stands = status(folder)
    _answer(call, stands, _table(stands) if stands.running else f"{_table(stands)}\n\nstart it with `reconcile sandbox up`")
    return 0 if stands.running else 1


def _fault(call: Call, folder: Path) -> int:
    from reconciler.sandbox.neon.asking import order_fault
    from reconciler.sandbox.neon.faults import Fault

    asked = call.arguments
    fault = Fault(
        kind=asked.kind,
        times=asked.times,
        seconds=asked.seconds,
        status=asked.http_status,
        method=asked.method.upper(),
        path=asked.path,
    )
    left = order_fault(folder / "neon", None if asked.kind == "none" else fault)
    if call.json:
        call.answer_json(left)
    else:
        lines = [f"{each.kind} × {each.times} {each.method or 'any'} {each.path or 'any path'}" for each in left.faults]
        call.answer("\n".join(lines) or "nothing goes wrong on purpose")
    return 0


def _answer(call: Call, stands: Status, text: str) -> None:
    if call.json:
        call.answer_json(stands)
    else:
        call.answer(text)


def _table(stands: Status) -> str:
    postgres, s3, neon = stands.postgres, stands.s3, stands.neon
    rows = [
        (
            "postgres",
            _runs(postgres),
            _place(postgres.url),
            f"PostgreSQL {postgres.version}" if postgres.version else "",
        ),
        ("s3", _runs(s3), _place(s3.endpoint), f"bucket {s3.bucket}" if s3.running else ""),
        ("neon", _runs(neon), _place(neon.api_host), f"project {neon.project_id}" if neon.running else ""),
    ]
    return _aligned(rows)


def _runs(server: PostgresStatus | S3Status | NeonStatus) -> str:
    return f"runs, pid {server.pid}" if server.running else "does not run"


def _place(url: str | None) -> str:
    """Host, port and path: what comes before them holds the password."""
    if url is None:
        return "-"
    parts = urlsplit(url)
    return f"{parts.hostname}:{parts.port}{parts.path}"


def _aligned(rows: Sequence[Sequence[str]]) -> str:
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return "\n".join("  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)).rstrip() for row in rows)
