"""A branch holds what was committed at its place, to the transaction."""

from collections.abc import Iterator
from datetime import datetime
from secrets import choice

import msgspec
import pytest

from tests.servers.neon import NeonServer

TRANSACTIONS = 400


class Written(msgspec.Struct, frozen=True, kw_only=True):
    """A transaction's number, and an instant and a place that lie behind its commit and before the next one's."""

    number: int
    at: datetime
    lsn: str


@pytest.fixture(scope="module")
def ledger(neon: NeonServer) -> Iterator[list[Written]]:
    """400 transactions, as close to each other as they come."""
    with neon.connect() as connection:
        connection.execute("create table ledger (number int primary key)")
        written = []
        for number in range(TRANSACTIONS):
            connection.execute("insert into ledger values (%s)", [number])
            at, lsn = connection.execute("select clock_timestamp(), pg_current_wal_insert_lsn()::text").fetchone() or (None, None)
            written.append(Written(number=number, at=at, lsn=lsn))
    yield written
    with neon.connect() as connection:
        connection.execute("drop table ledger")


@pytest.mark.parametrize("turn", range(3))
def test_branch_at_an_instant_holds_exactly_what_was_committed_before(neon: NeonServer, ledger: list[Written], turn: int) -> None:
    """Of 400 transactions a few milliseconds apart, the row before a random instant is there and the next one is not."""
    chosen = choice(ledger)

    made = neon.branch(parent_timestamp=chosen.at.isoformat())

    held = neon.rows("select number from ledger order by number", made["branch"]["id"])
    assert [(number,) for number in range(chosen.number + 1)] == held
    neon.discard(made["branch"]["id"])


@pytest.mark.parametrize("turn", range(2))
def test_branch_at_an_lsn_holds_exactly_what_was_committed_before(neon: NeonServer, ledger: list[Written], turn: int) -> None:
    """The same by a place in the log."""
    chosen = choice(ledger)

    made = neon.branch(parent_lsn=chosen.lsn)

    held = neon.rows("select count(*), max(number) from ledger", made["branch"]["id"])
    assert [(chosen.number + 1, chosen.number)] == held
    assert chosen.lsn == neon.get(f"/branches/{made['branch']['id']}")["branch"]["parent_lsn"]
    neon.discard(made["branch"]["id"])


def test_branch_of_the_head_holds_all_and_is_isolated(neon: NeonServer, ledger: list[Written]) -> None:
    """It has the last commit, and what is written on either side stays there."""
    made = neon.branch()["branch"]["id"]

    with neon.connect(made) as connection:
        connection.execute("insert into ledger values (1000)")
    with neon.connect() as connection:
        connection.execute("insert into ledger values (2000)")
        connection.execute("delete from ledger where number = 2000")

    assert [(TRANSACTIONS + 1, 1000)] == neon.rows("select count(*), max(number) from ledger", made)
    assert [(TRANSACTIONS, TRANSACTIONS - 1)] == neon.rows("select count(*), max(number) from ledger")
    neon.discard(made)


def test_branch_of_a_branch(neon: NeonServer, ledger: list[Written]) -> None:
    """A branch has a history of its own, which begins at its birth."""
    child = neon.branch(parent_timestamp=ledger[99].at.isoformat())["branch"]["id"]
    with neon.connect(child) as connection:
        connection.execute("insert into ledger values (1000)")
        (at,) = connection.execute("select clock_timestamp()").fetchone() or (None,)
        connection.execute("insert into ledger values (1001)")
    assert isinstance(at, datetime)

    grandchild = neon.branch(parent_id=child, parent_timestamp=at.isoformat())["branch"]["id"]

    assert [(101, 1000)] == neon.rows("select count(*), max(number) from ledger", grandchild)
    status, said = neon.refused(
        "POST", "/branches", {"branch": {"parent_id": child, "parent_timestamp": ledger[10].at.isoformat()}}
    )
    assert (422, True) == (status, "outside the history retention window" in said)
    neon.discard(grandchild, child)


def test_branch_of_one_that_rests(neon: NeonServer, ledger: list[Written]) -> None:
    """A parent without a compute is branched without one: at its head, and at an instant."""
    parent = neon.branch(with_compute=False, parent_timestamp=ledger[49].at.isoformat())["branch"]["id"]

    made = [neon.branch(parent_id=parent)["branch"]["id"]]
    born = neon.get(f"/branches/{made[0]}")["branch"]["created_at"]
    made.append(neon.branch(parent_id=parent, parent_timestamp=born)["branch"]["id"])

    assert [[(50,)], [(50,)]] == [neon.rows("select count(*) from ledger", branch) for branch in made]
    neon.discard(*made, parent)


def test_lsn_that_is_not_there_yet_is_waited_for(neon: NeonServer, ledger: list[Written]) -> None:
    """By LSN nothing is missed: the branch waits for the log to get there."""
    with neon.connect() as connection:
        (ahead,) = connection.execute("select (pg_current_wal_insert_lsn() + 100)::text").fetchone() or ("",)

    made = neon.branch(parent_lsn=ahead)["branch"]["id"]

    assert [(TRANSACTIONS,)] == neon.rows("select count(*) from ledger", made)
    neon.discard(made)
