"""How long what the Neon provider rests on takes, against the sandbox's Neon, which this starts and removes.

    python benchmarks/neon.py [ROUNDS]

Prints medians, of five rounds unless told otherwise, with the requests of each through our own client, and the machine's load.
A branch is made as a dump's is; a dump goes through one; the main branch is restored in place, and from a snapshot.
"""

import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from pathlib import Path
from threading import Event
from typing import Any, NamedTuple

import psycopg

from reconciler.policy.redaction import Redactor
from reconciler.policy.secret import Revealed, Secret, Surroundings, Text
from reconciler.providers.neon.api import Api
from reconciler.providers.neon.settings import NeonProvider, NeonSettings, connect
from reconciler.providers.neon.source import NeonSource
from reconciler.sandbox.neon.service import Neon, remove_neon, start_neon
from reconciler.sandbox.patience import wait_for
from reconciler.world.clock import SystemClock, token
from reconciler.world.wire import Wire

MOST_ROUNDS = 20
"""Each leaves a root branch, of 25 that there may be."""
READY_SECONDS = 60.0


class Taken(NamedTuple):
    """By one round of something."""

    seconds: float
    requests: int


class Stand(NamedTuple):
    """A running Neon, as the provider sees it, and as a guest does."""

    neon: Neon
    api: Api
    provider: NeonProvider

    @property
    def source(self) -> NeonSource:
        return self.provider.source()

    def is_there(self, url: str) -> bool:
        """Whether a guest is let in."""
        try:
            with psycopg.connect(url, connect_timeout=10) as connection:
                return connection.execute("select count(*) > 0 from hotel.guests").fetchall() == [(True,)]
        except psycopg.OperationalError:
            return False

    def until_there(self) -> None:
        """By the address that an application has."""
        wait_for(lambda: self.is_there(self.neon.main_url), seconds=READY_SECONDS, what="the main branch to be there")

    def now(self) -> datetime:
        with psycopg.connect(self.neon.main_url) as connection:
            (at,) = connection.execute("select clock_timestamp()").fetchall()[0]
        found: datetime = at
        return found


def main() -> int:
    rounds = min(MOST_ROUNDS, int(sys.argv[1]) if len(sys.argv) > 1 else 5)
    with tempfile.TemporaryDirectory(prefix="neon-") as folder:
        home = Path(folder) / "neon"
        try:
            measure(standing(start_neon(home, with_hotel=True)), rounds)
        finally:
            remove_neon(home)
    return 0


def standing(neon: Neon) -> Stand:
    settings = NeonSettings(
        project=neon.project_id,
        branch="main",
        database="hotel",
        role="hotel_owner",
        api_key=Secret.parse("${KEY}"),
        api_host=Text.parse(neon.api_host),
    )
    surroundings = Surroundings(base=Path(), environ={"KEY": neon.api_key}, redactor=Redactor())
    clock, stop = SystemClock(), Event()
    provider = connect("hotel", settings, surroundings=surroundings, clock=clock, stop=stop)
    return Stand(neon, Api(neon.api_host, Revealed(neon.api_key), neon.project_id, clock=clock, stop=stop), provider)


def measure(stand: Stand, rounds: int) -> None:
    stand.until_there()
    asked = counted()
    doings: dict[str, Callable[[Stand], Iterator[None]]] = {
        "a turn's look, with nothing to do": idle,
        "a branch made, ready to connect to": branch_made,
        "a dump through a branch": dump,
        "the main branch restored in place": restored_in_place,
        "the main branch restored from a snapshot": restored_from_snapshot,
    }
    print(f"load at the start {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores; {rounds} rounds; medians, fastest, slowest")
    for says, doing in doings.items():
        taken = [one_round(stand, doing, asked) for _ in range(rounds)]
        seconds = [one.seconds for one in taken]
        requests = sorted({one.requests for one in taken})
        told = str(requests[0]) if len(requests) == 1 else f"{requests[0]} to {requests[-1]}"
        print(
            f"{says:42} {statistics.median(seconds):6.2f} s  {min(seconds):6.2f} s  {max(seconds):6.2f} s  {told} requests",
            flush=True,
        )
    print(f"load at the end {os.getloadavg()[0]:.1f}")


def counted() -> Callable[[], int]:
    """How many requests were sent so far."""
    sent, ask = [0], Wire.ask

    def noted(self: Wire, *args: Any, **more: Any) -> Any:
        sent[0] += 1
        return ask(self, *args, **more)

    Wire.ask = noted  # type: ignore[method-assign]  # this program counts, and nothing else runs in it
    return lambda: sent[0]


def one_round(stand: Stand, doing: Callable[[Stand], Iterator[None]], asked: Callable[[], int]) -> Taken:
    """What lies between the first and the second `yield` is measured; before it is prepared, behind it tidied up."""
    steps = doing(stand)
    next(steps)
    begun, before = time.monotonic(), asked()
    next(steps)
    taken = Taken(time.monotonic() - begun, asked() - before)
    for _ in steps:
        pass
    return taken


def idle(stand: Stand) -> Iterator[None]:
    yield
    stand.source.facts()
    stand.provider.history().facts()
    yield


def branch_made(stand: Stand) -> Iterator[None]:
    facts, use = stand.source.facts(), new_use()
    yield
    wanted = stand.source.wanted(use, stand.source.branch(), expires=facts.clock + timedelta(hours=1))
    with stand.source.branched(use, wanted) as (_, address):
        with psycopg.connect(**address.for_session("benchmark")) as connection:  # type: ignore[arg-type]  # libpq's own words
            connection.execute("select 1")
        yield


def dump(stand: Stand) -> Iterator[None]:
    yield
    with stand.source.dump(new_use(), expect=None) as dumping:
        for _ in dumping.chunks():
            pass
    yield


def restored_in_place(stand: Stand) -> Iterator[None]:
    """From the sending of the request until a guest of the old address is let in."""
    main, at, kept = stand.source.branch(), stand.now(), f"kept-{token(4)}"
    yield
    body = {"source_branch_id": main.id, "source_timestamp": at.isoformat(), "preserve_under_name": kept}
    stand.api.change("POST", f"/branches/{main.id}/restore", "restore main in place", body=body)
    stand.until_there()
    yield
    discard(stand, kept)


def restored_from_snapshot(stand: Stand) -> Iterator[None]:
    """The same, of a snapshot that is there, and that takes the main branch's place. What was there before stays."""
    name = f"snapshot-{token(4)}"
    taken, main = stand.provider.history().take_snapshot(name), stand.source.branch()
    yield
    body = {"target_branch_id": main.id, "finalize_restore": True}
    stand.api.change("POST", f"/snapshots/{taken.id}/restore", "restore the snapshot", body=body)
    stand.until_there()
    yield
    stand.api.change("DELETE", f"/snapshots/{taken.id}", "delete the snapshot")


def discard(stand: Stand, name: str) -> None:
    (kept,) = (branch for branch in stand.provider.history().facts().branches if branch.name == name)
    stand.api.change("DELETE", f"/branches/{kept.id}", f"delete {name}", query={"hard_delete": "true"})


def new_use() -> str:
    return f"{SystemClock().now():%Y%m%dT%H%M%SZ}-{token(3)}"


if __name__ == "__main__":
    sys.exit(main())
