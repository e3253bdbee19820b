"""The policy's limits, from the file to the outcome."""

from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta

from tests.end_to_end.conftest import Stand
from tests.postgres.processes import comes_true

WAITING = """
SELECT count(*) FROM pg_locks JOIN pg_stat_activity USING (pid)
WHERE NOT granted AND application_name LIKE %s AND starts_with(query, 'LOCK TABLE')
"""
"""pg_dump itself: the fingerprint beside it may wait first, while pg_dump has no lock yet."""


def test_a_dump_that_gives_way(stand: Stand) -> None:
    """It fails with whom it gave way to; the slot stays due, and the next run takes it."""
    stand.rewrite("dumps:", "dumps:\n      limits: {yield_to: 1s, max_duration: 1h, rate: 100MiB/s}")
    with stand.connect() as holder, stand.connect() as migration, stand.connect() as look, ThreadPoolExecutor() as pool:
        holder.execute("BEGIN")
        holder.execute("LOCK TABLE hotel.reservations IN ACCESS EXCLUSIVE MODE")
        applying = pool.submit(stand.run, "apply", "--yes", expect=1)
        # pg_dump has its locks on the tables before that one, and waits.
        assert comes_true(lambda: look.execute(WAITING, ("reconciler/%",)).fetchone() == (1,))
        migration.execute("SET application_name = 'migration'")
        migration.execute("SET lock_timeout = '60s'")
        altering = pool.submit(migration.execute, "BEGIN; LOCK TABLE hotel.guests IN ACCESS EXCLUSIVE MODE; ROLLBACK")
        failed = applying.result(timeout=60)
        altering.exception(timeout=60)
        holder.execute("ROLLBACK")

    assert "yielded to migration (pid " in failed.stdout + failed.stderr
    assert [] == stand.leftovers()
    stand.run("apply", "--yes")
    assert 1 == len(stand.backups())


def test_a_dump_that_waits_for_a_window(stand: Stand) -> None:
    """Nothing is to be done for now, which is said of plan and apply alike, and is no change that is due."""
    today = datetime.now(UTC)
    opens = (today + timedelta(days=2)).date()
    stand.rewrite("dumps:", f'dumps:\n      never: ["* * * * {today:%a},{today + timedelta(days=1):%a}"]')

    planned = stand.run("plan", "--detailed-exitcode")
    applied = stand.run("apply", "--yes")

    said = f"nothing to do now: a dump waits until {opens} 00:00Z"
    assert f"Plan: {said}." == planned.stdout.splitlines()[-1]
    assert f"Applied: {said}." == applied.stdout.splitlines()[-1]
    assert [] == stand.backups()
