"""What was seen, judged: pure, without any server."""

from datetime import timedelta
from pathlib import Path
from typing import Any

import msgspec
import pytest

from reconciler.doctor import clock, history, leftovers, room, source, tools
from reconciler.doctor.report import Passed, Verdict
from reconciler.doctor.tools import Tools
from reconciler.errors import Finding
from reconciler.postgres.client import Client
from reconciler.postgres.examination import Examination, Exclusive, Prepared
from reconciler.world.history import HistoryFacts, Limits
from reconciler.world.ports import Upload
from tests import building
from tests.building import DAY, HOUR, MINUTE, NOW, catalogue, copy, id_of, observation, planned, policy, tombstone, unknown

SECOND = timedelta(seconds=1)

HEALTHY = Examination(
    at=NOW,
    role="backup",
    superuser=False,
    standby=False,
    encrypted=True,
    local=False,
    forbidden_functions=(),
    exported_snapshot=True,
    shortfalls=(),
    reads_passwords=False,
    timeouts=(),
    tables=100,
    locks_per_transaction=64,
    transactions=100,
    unlogged=(),
    foreign=(),
    subscriptions=(),
    mappings=(),
    prepared=(),
    exclusive=(),
)


def client(major: int) -> Client:
    return Client(major=major, version=f"{major}.1", folder=Path(f"/pg/{major}"))


def severities(verdicts: list[Verdict]) -> list[str]:
    return [verdict.severity for verdict in verdicts if isinstance(verdict, Finding)]


@pytest.mark.parametrize(
    ("theirs", "expected"),
    [
        (NOW, timedelta(0)),
        (NOW - SECOND, timedelta(0)),
        (NOW + 3 * SECOND, SECOND),
        (NOW - 5 * SECOND, -4 * SECOND),
    ],
)
def test_how_far_a_clock_is_off(theirs: timedelta, expected: timedelta) -> None:
    """Neither the time that asking took nor a Date header's whole seconds count."""
    assert expected == clock.offset(theirs, NOW, NOW + 2 * SECOND)  # type: ignore[arg-type]  # instants, as NOW is one


@pytest.mark.parametrize(
    ("ahead", "expected"),
    [(5, []), (-5, []), (6, ["warning"]), (60, ["warning"]), (61, ["error"]), (-61, ["error"])],
)
def test_clocks_that_differ(ahead: int, expected: list[str]) -> None:
    """Five seconds are nothing, and beyond a minute nothing is deleted."""
    assert expected == severities([clock.judge("offsite", ahead * SECOND)])


@pytest.mark.parametrize(
    ("free", "newest", "expected"), [(200, 100, []), (199, 100, ["warning"]), (99, 100, ["error"]), (0, None, [])]
)
def test_room_for_the_next_ones(free: int, newest: int | None, expected: list[str]) -> None:
    """Two of the newest backup's size must fit."""
    assert expected == severities([room.judge("disk", free, newest)])


def test_a_client_of_the_servers_major() -> None:
    """Nothing to say."""
    both = (client(15), client(18))

    assert [] == severities(tools.judge(Tools(dump=both, restore=both), 15))


@pytest.mark.parametrize(
    ("dump", "restore", "server", "expected"),
    [
        ((18,), (18,), 15, ["warning"]),
        ((15,), (15,), 18, ["error"]),
        ((), (), 18, ["error", "error"]),
        ((18,), (), 18, ["error"]),
        ((18,), (17,), 18, ["error"]),
        ((), (), None, ["error", "error"]),
        ((15,), (15,), None, []),
    ],
)
def test_clients_that_do_not_fit(
    dump: tuple[int, ...], restore: tuple[int, ...], server: int | None, expected: list[str]
) -> None:
    """A newer one is a warning, an older or missing one an error."""
    there = Tools(dump=tuple(map(client, dump)), restore=tuple(map(client, restore)))

    verdicts = tools.judge(there, server)

    assert expected == severities(verdicts)
    assert all(verdict.cure for verdict in verdicts if isinstance(verdict, Finding))


def test_a_healthy_source() -> None:
    """Only checks that passed."""
    assert all(isinstance(verdict, Passed) for verdict in source.judge(HEALTHY))


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"encrypted": False}, ["warning"]),
        ({"encrypted": False, "local": True}, []),
        ({"tables": 3200}, []),
        ({"tables": 3201}, ["warning"]),
        ({"tables": 6401}, ["error"]),
        ({"prepared": (Prepared(name="x", since=NOW - HOUR - SECOND),)}, ["warning"]),
        ({"prepared": (Prepared(name="x", since=NOW - MINUTE),)}, []),
        ({"exclusive": (Exclusive(table="t", holder="pid 1", since=NOW - 31 * SECOND),)}, ["warning"]),
        ({"exclusive": (Exclusive(table="t", holder="pid 1", since=NOW - 2 * SECOND),)}, []),
        ({"exclusive": (Exclusive(table="t", holder="pid 1", since=None),)}, ["warning"]),
        ({"unlogged": ("public.s",)}, ["note"]),
        ({"unlogged": ("public.s",), "standby": True}, ["warning"]),
        ({"superuser": True}, ["note"]),
        ({"subscriptions": ("s",)}, ["warning"]),
        ({"subscriptions": ("s",), "superuser": True}, ["note"]),
        ({"mappings": ("u at s",)}, ["warning"]),
        ({"mappings": ("u at s",), "superuser": True}, ["note"]),
        ({"forbidden_functions": ("pg_export_snapshot()",), "exported_snapshot": False}, ["error"]),
    ],
)
def test_a_source_with_a_flaw(change: dict[str, object], expected: list[str]) -> None:
    """Each has its severity and a cure."""
    verdicts = source.judge(msgspec.structs.replace(HEALTHY, **change))

    assert expected == severities(verdicts)
    assert all(verdict.cure for verdict in verdicts if isinstance(verdict, Finding))


def test_too_few_locks() -> None:
    """The number to set is told, and would be enough."""
    short = msgspec.structs.replace(HEALTHY, tables=50_000)

    (found,) = (verdict for verdict in source.judge(short) if isinstance(verdict, Finding))

    assert "max_locks_per_transaction = 1000 " in found.cure
    assert [] == severities(source.judge(msgspec.structs.replace(short, locks_per_transaction=1000)))


def test_leftovers_of_all_kinds() -> None:
    """Debris and stuck uploads are warnings, a deletion that is due is a note, and each says what to do."""
    gone = copy(NOW - 9 * DAY, "being_deleted")
    debris = copy(NOW - 2 * DAY, "debris")
    have = observation(
        primary=catalogue([copy(NOW - HOUR), copy(NOW - DAY), debris, gone], [tombstone(gone, NOW - 8 * DAY)]),
    )
    uploads = [
        Upload(key=f"hotel/backups/{debris.id}/dump.zst", upload_id="1", begun=NOW - DAY),
        Upload(key=f"hotel/backups/{id_of(NOW - 3 * DAY)}/dump.zst", upload_id="2", begun=NOW - 3 * DAY),
        Upload(key="hotel/backups/x/dump.zst", upload_id="3", begun=NOW - MINUTE),
    ]

    verdicts = leftovers.judge(have, planned(policy(), have), uploads={"primary": uploads}, chosen=["primary"])

    found = {verdict.what.partition(":")[0]: verdict for verdict in verdicts if isinstance(verdict, Finding)}
    assert {"warning": 2, "note": 1} == {kind: severities(verdicts).count(kind) for kind in ("warning", "note")}
    assert "warning" == found["sweep debris"].severity
    assert "note" == found["remove"].severity
    assert any(what.startswith("1 unfinished write") for what in found)
    assert all(finding.cure for finding in found.values())


def test_nothing_is_left_over() -> None:
    """It is said."""
    have = observation(primary=catalogue([copy(NOW - HOUR)]))

    verdicts = leftovers.judge(have, planned(policy(), have), uploads={}, chosen=["primary"])

    assert Passed(where="primary", what="nothing is left over") in verdicts
    assert [] == severities(verdicts)


def test_a_catalogue_that_cannot_be_read() -> None:
    """It is an error, unless the target's own trial said so already; other targets are not asked for."""
    have = observation(primary=unknown(), offsite=unknown())

    assert ["error"] == severities(leftovers.unseen(have, ["primary"], told=[]))
    assert [] == leftovers.unseen(have, ["primary"], told=["primary"])


LAUNCH = Limits(plan="launch", branches=10, roots=5, snapshots=100, protected=2)


def kept(**fields: Any) -> HistoryFacts:
    seen: HistoryFacts = building.history().value
    return msgspec.structs.replace(seen, **({"limits": LAUNCH} | fields))


@pytest.mark.parametrize(
    ("seen", "expected", "said"),
    [
        (kept(), [], "no limit of the plan launch is near"),
        (kept(limits=msgspec.structs.replace(LAUNCH, branches=1)), ["error"], "no more branches: 1 of 1"),
        (kept(limits=Limits()), ["note"], "may not ask for the plan"),
        (kept(limits=Limits(plan="business")), ["note"], "business is not known"),
        (kept(refuses="still restoring"), ["error"], "still restoring"),
        (kept(maintenance=building.history().value.clock + DAY), ["note"], "maintenance"),
    ],
)
def test_a_history(seen: HistoryFacts, expected: list[str], said: str) -> None:
    """What keeps from returning to an instant, and what runs out."""
    verdicts = list(history.judge(policy(), seen))

    assert expected == severities(verdicts)
    assert any(said in verdict.what for verdict in verdicts)
