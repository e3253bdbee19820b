"""A real PostgreSQL and a real S3 server on this machine, to try things on: no root, container or account needed.

examples:
  reconcile sandbox up                     start both, make a hotel database to protect
  reconcile sandbox status --format json   where they are, and the keys to them
  reconcile sandbox down                   end both, keep their data
  reconcile sandbox down --purge           end both, delete their data

For trying and testing only. Everything listens on 127.0.0.1. `status` exits with 1 unless both run.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import urlsplit

from reconciler.cli.frame import Call
from reconciler.sandbox.status import PostgresStatus, S3Status, Status

_NEXT = """
next:
  reconcile --plan            what is missing
  reconcile sandbox down      end both servers (--purge: delete their data too)"""


def register(parser: argparse.ArgumentParser) -> None:
    """Its options."""
    parser.add_argument("action", choices=("up", "down", "status"), help="start, end, or look")
    parser.add_argument("--dir", metavar="FOLDER", type=Path, help="where it lives (default: .sandbox beside the policy)")
    parser.add_argument("--purge", action="store_true", help="with down: delete the data as well")


def run(call: Call) -> int:
    """Start, end, or look."""
    folder: Path = call.arguments.dir or Path(call.arguments.policy).parent / ".sandbox"
    if call.arguments.purge and call.arguments.action != "down":
        call.say("reconcile sandbox: --purge goes with down")
        return 1
    actions = {"up": _up, "down": _down, "status": _status}
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
    said = "ended both servers" if ran else "nothing ran"
    kept = "; the data is deleted" if call.arguments.purge else "; the data is kept, `reconcile sandbox up` goes on with it"
    _answer(call, status(folder), said + kept)
    return 0


def _status(call: Call, folder: Path) -> int:
    from reconciler.sandbox.status import status

    stands = status(folder)
    _answer(call, stands, _table(stands) if stands.running else f"{_table(stands)}\n\nstart it with: reconcile sandbox up")
    return 0 if stands.running else 1


def _answer(call: Call, stands: Status, text: str) -> None:
    if call.json:
        call.answer_json(stands)
    else:
        call.answer(text)


def _table(stands: Status) -> str:
    postgres, s3 = stands.postgres, stands.s3
    rows = [
        (
            "postgres",
            _runs(postgres),
            _place(postgres.url),
            f"PostgreSQL {postgres.version}" if postgres.version else "",
        ),
        ("s3", _runs(s3), _place(s3.endpoint), f"bucket {s3.bucket}" if s3.running else ""),
    ]
    return _aligned(rows)


def _runs(server: PostgresStatus | S3Status) -> str:
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
