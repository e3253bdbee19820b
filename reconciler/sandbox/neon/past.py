"""Time Travel: a connection into the past, which needs no branch. Read-only, unlisted, gone when nobody is there any more."""

import hashlib
from datetime import timedelta

from reconciler.errors import Unreachable
from reconciler.sandbox.neon import asked
from reconciler.sandbox.neon.book import now
from reconciler.sandbox.neon.engine import Engine
from reconciler.sandbox.neon.greeting import Greeting
from reconciler.sandbox.neon.retention import must_be_kept
from reconciler.sandbox.neon.work import VisitPast

_GONE_AFTER = timedelta(seconds=30)
"""Without a guest (Neon's documentation: guides/time-travel-assist)."""
_WAITING_SECONDS = 120


def visit(engine: Engine, endpoint_id: str, greeting: Greeting) -> int:
    """A server that stands still where the guest asked for; its port. Raises Refusal, Unreachable."""
    book = engine.book
    branch = book.branch(book.endpoint(endpoint_id).branch_id)
    target = asked.target(lsn=greeting.own.get("neon_lsn"), timestamp=greeting.own.get("neon_timestamp"))
    must_be_kept(book, branch.timeline, target)
    name = hashlib.sha256(f"{branch.timeline} {target}".encode()).hexdigest()[:16]
    timeline = f"past-{name}"
    engine.visits[timeline] = now()
    if (port := engine.clusters.port(timeline)) is None:
        work = VisitPast(timeline=timeline, source=branch.timeline, target=target)
        (operation,) = book.schedule(("start_compute", work), branch=branch.id)
        book.wait(lambda: not book.state.operations[operation.id].is_open, seconds=_WAITING_SECONDS)
        port = engine.clusters.port(timeline)
        if port is None:
            raise Unreachable(book.state.operations[operation.id].error or "getting there takes too long")
    return port


def leave(engine: Engine) -> None:
    """Delete where nobody was for a while."""
    for timeline, last in list(engine.visits.items()):
        if _has_guests(engine, timeline):
            engine.visits[timeline] = now()
        elif last + _GONE_AFTER <= now():
            del engine.visits[timeline]
            engine.clusters.drop(timeline)


def _has_guests(engine: Engine, timeline: str) -> bool:
    if engine.clusters.port(timeline) is None:
        return False
    with engine.clusters.connect(timeline) as connection:
        found = connection.execute(
            "select exists (select from pg_stat_activity where backend_type = 'client backend' and pid <> pg_backend_pid())"
        ).fetchone()
    return bool(found and found[0])
