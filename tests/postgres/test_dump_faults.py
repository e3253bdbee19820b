"""What a dump does when something is wrong: how it is told, and that nothing is left behind."""

import os
import signal
import subprocess
import sys
import tempfile
import traceback
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from threading import Event

import msgspec
import psycopg
import pytest

from reconciler.errors import ReconcilerError, Refused, Stopped, Unreachable
from reconciler.postgres.dump import Manners
from reconciler.postgres.source import PostgresSource
from reconciler.postgres.url import parse
from reconciler.sandbox.postgres import FAST, remove_cluster, start_cluster
from tests.faults.proxy import Cut, FaultProxy, Stall
from tests.postgres.processes import children, comes_true, is_blocked, is_running, kill_all, programs, sessions_end
from tests.servers.postgres import BINARIES, PASSWORD, Server

Open = Callable[[str], PostgresSource]
LARGE = "CREATE TABLE t AS SELECT repeat('x', 1000) FROM generate_series(1, 20000)"
"""More than pipes and sockets hold, so that pg_dump is in the middle of it after the first chunk."""


def drain(source: PostgresSource, name: str = "fault") -> None:
    with source.dump(name, expect=None) as dump:
        for _ in dump.chunks():
            pass


def all_text(error: BaseException) -> str:
    """What a traceback would show, chained exceptions included."""
    return "".join(traceback.format_exception(error)) + repr(error)


def test_a_wrong_password(postgres: Server, open_source: Open) -> None:
    """It is refused, and the password is nowhere in what would be printed."""
    role = postgres.new_role()
    source = open_source(postgres.url(postgres.new_database(), user=role, password="Wr0ng:w/rd"))

    with pytest.raises(Refused, match="password authentication failed") as refusal:
        source.facts()

    assert "Wr0ng" not in all_text(refusal.value)
    assert "check user and password" in refusal.value.cure


def test_no_such_database(postgres: Server, open_source: Open) -> None:
    """The sentence names it."""
    with pytest.raises(Refused, match='database "nowhere" does not exist'):
        open_source(postgres.url("nowhere")).facts()


@pytest.mark.parametrize(
    ("host", "said"), [("127.0.0.1:1", "Connection refused"), ("no.such.host.invalid", "failed to resolve host")]
)
def test_nobody_is_there(open_source: Open, host: str, said: str) -> None:
    """It may be up later, and a password of one letter does not garble the sentence."""
    with pytest.raises(Unreachable, match=said):
        open_source(f"postgres://u:p@{host}/x").facts()


@pytest.mark.parametrize("parameter", ["sslmode=bogus", "connect_timeout=abc"])
def test_a_parameter_without_sense(open_source: Open, parameter: str) -> None:
    """Trying again is no use: the url is to be corrected."""
    with pytest.raises(Refused) as refusal:
        open_source(f"postgres://u:p@127.0.0.1:1/x?{parameter}").facts()

    assert "in the url" in refusal.value.cure


def test_tls_is_asked_of_a_server_without(postgres18: Server, open_source: Open) -> None:
    """The url's sslmode is obeyed, never lowered."""
    with pytest.raises(Refused, match="does not support SSL"):
        open_source(postgres18.url("postgres") + "?sslmode=require").facts()


@pytest.mark.parametrize(
    ("hide", "named", "grant"),
    [
        ("REVOKE ALL ON t FROM {role}", "public.t", "GRANT SELECT ON TABLE public.t TO {role};"),
        ("REVOKE ALL ON s FROM {role}", "public.s", "GRANT SELECT ON SEQUENCE public.s TO {role};"),
        ('REVOKE ALL ON SCHEMA "Odd One" FROM {role}', '"Odd One".t', 'GRANT USAGE ON SCHEMA "Odd One" TO {role};'),
        ("SELECT lo_create(4711)", "large object 4711", "GRANT SELECT ON LARGE OBJECT 4711 TO {role};"),
        ("ALTER TABLE t ENABLE ROW LEVEL SECURITY", "row security hides rows of public.t", "ALTER ROLE {role} BYPASSRLS;"),
    ],
)
def test_a_role_that_sees_less_than_the_whole(postgres: Server, open_source: Open, hide: str, named: str, grant: str) -> None:
    """It is refused before a byte is read, with the grant to give; once that is given, the dump is whole."""
    role = postgres.new_role()
    database = postgres.new_database(
        'CREATE TABLE t (v int); CREATE SEQUENCE s; CREATE SCHEMA "Odd One"; CREATE TABLE "Odd One".t (v int);'
        f'GRANT USAGE ON SCHEMA "Odd One" TO {role}; GRANT SELECT ON ALL TABLES IN SCHEMA public, "Odd One" TO {role};'
        f"GRANT SELECT ON ALL SEQUENCES IN SCHEMA public TO {role}; {hide.format(role=role)}"
    )
    source = open_source(postgres.url(database, user=role))

    with pytest.raises(Refused) as refusal:
        drain(source)

    assert named in str(refusal.value)
    assert grant.format(role=role) in refusal.value.cure
    postgres.execute(grant.format(role=role), database)
    drain(source)


def test_a_role_whose_settings_end_sessions(postgres: Server, open_source: Open) -> None:
    """Time-outs of the role or the database end neither the snapshot's session nor pg_dump's."""
    role = postgres.new_role("SUPERUSER")
    database = postgres.new_database(LARGE)
    names = ["statement_timeout", "idle_in_transaction_session_timeout", "idle_session_timeout", "lock_timeout"]
    for name in [*names, *(["transaction_timeout"] if postgres.major >= 17 else [])]:
        postgres.execute(f"ALTER ROLE {role} SET {name} = '1s'")

    with open_source(postgres.url(database, user=role)).dump("slow", expect=None) as dump:
        chunks = dump.chunks()
        next(chunks)
        Event().wait(1.5)  # the time-outs themselves are the condition: there is nothing else to wait for
        rest = sum(map(len, chunks))

        assert rest > 15_000_000
        assert dump.lsn_after() is not None


def test_a_locked_table(postgres: Server, manners: Manners) -> None:
    """The dump gives up its place in the queue, and names the table and who holds it."""
    database = postgres.new_database('CREATE TABLE "Locked One" (v int)')
    hasty = msgspec.structs.replace(manners, lock_wait="300ms")

    with postgres.connect(database) as holder:
        holder.execute('BEGIN; LOCK TABLE "Locked One" IN ACCESS EXCLUSIVE MODE')
        with pytest.raises(Unreachable, match=r'public\."Locked One" is locked by .*pid'):
            drain(PostgresSource(parse(postgres.url(database), field="url"), hasty))

    assert sessions_end(postgres, "reconciler/fault")


def test_pg_dump_is_killed(postgres18: Server, open_source: Open) -> None:
    """The iteration ends with an error, never as if it were the end."""
    source = open_source(postgres18.url(postgres18.new_database(LARGE)))
    before = children()

    with source.dump("killed", expect=None) as dump:
        chunks = dump.chunks()
        next(chunks)
        (guardian,) = children() - before
        (pg_dump,) = programs(guardian)
        os.kill(pg_dump, signal.SIGKILL)
        with pytest.raises(Unreachable, match="ended by signal 9"):
            list(chunks)


def test_the_session_of_pg_dump_is_ended(postgres18: Server, open_source: Open) -> None:
    """A server that ends our session is gone for now, and may be back."""
    database = postgres18.new_database(LARGE)

    with open_source(postgres18.url(database)).dump("ended", expect=None) as dump:
        chunks = dump.chunks()
        next(chunks)
        postgres18.execute(
            f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{database}' AND query LIKE 'COPY%'"
        )
        with pytest.raises(Unreachable):
            list(chunks)


def test_the_server_dies_on_the_way(manners: Manners) -> None:
    """A server that is killed is unreachable, and nothing of the dump is taken for whole."""
    with tempfile.TemporaryDirectory(prefix="pg-") as folder:
        cluster = start_cluster(BINARIES[18], Path(folder) / "18", settings=FAST)
        server = Server(major=18, cluster=cluster)
        database = server.new_database(LARGE)
        try:
            with PostgresSource(parse(server.url(database), field="url"), manners).dump("dies", expect=None) as dump:
                chunks = dump.chunks()
                next(chunks)
                backends = children(cluster.process.pid)  # whose parent they are not any more once it is dead
                kill_all(cluster.process.pid, *backends)
                with pytest.raises(Unreachable):
                    list(chunks)
        finally:
            remove_cluster(cluster.folder)


def test_the_connection_is_cut(postgres18: Server, open_source: Open) -> None:
    """A network that breaks in the middle is unreachable, not an end of the dump."""
    database = postgres18.new_database(LARGE)

    with FaultProxy("127.0.0.1", postgres18.port) as proxy:
        url = postgres18.url(database).replace(f":{postgres18.port}/", f":{proxy.port}/")
        with open_source(url).dump("cut", expect=None) as dump:
            chunks = dump.chunks()
            next(chunks)
            proxy.cut_all()
            with pytest.raises(Unreachable):
                list(chunks)

    assert sessions_end(postgres18, "reconciler/cut")


def test_only_the_connection_of_pg_dump_is_cut(postgres18: Server, open_source: Open) -> None:
    """The snapshot's session being well does not make a broken dump whole."""
    database = postgres18.new_database(LARGE)

    with FaultProxy("127.0.0.1", postgres18.port) as proxy:
        url = postgres18.url(database).replace(f":{postgres18.port}/", f":{proxy.port}/")
        with open_source(url).dump("cut", expect=None) as dump:
            proxy.next_connection(Cut(after=5_000_000, side="down"))
            with pytest.raises(Unreachable):
                list(dump.chunks())


def test_the_server_never_answers(postgres18: Server, manners: Manners, monkeypatch: pytest.MonkeyPatch) -> None:
    """A connection that is open and silent holds nobody for ever."""
    monkeypatch.setattr("reconciler.postgres.session.ANSWER_SECONDS", 0.5)

    with FaultProxy("127.0.0.1", postgres18.port) as proxy:
        url = postgres18.url("postgres").replace(f":{postgres18.port}/", f":{proxy.port}/")
        proxy.next_connection(Stall(after=2_000, side="down"))
        with pytest.raises(Unreachable):
            drain(PostgresSource(parse(url, field="url"), manners))


def test_a_wish_to_stop(postgres18: Server, open_source: Open, stop: Event) -> None:
    """It is heard between two chunks, and nothing runs on."""
    before = children()

    with open_source(postgres18.url(postgres18.new_database(LARGE))).dump("stop", expect=None) as dump:
        chunks = dump.chunks()
        next(chunks)
        stop.set()
        with pytest.raises(Stopped):
            list(chunks)

    assert set() == children() - before
    assert sessions_end(postgres18, "reconciler/stop")


def test_nothing_moves_any_more(postgres18: Server, manners: Manners) -> None:
    """A dump without a byte for too long is given up: here behind a lock that it would wait for much longer."""
    database = postgres18.new_database("CREATE TABLE t (v int)")
    hasty = msgspec.structs.replace(manners, patience=timedelta(seconds=0.5))

    with postgres18.connect(database) as holder:
        holder.execute("BEGIN; LOCK TABLE t IN ACCESS EXCLUSIVE MODE")
        with pytest.raises(Unreachable, match=r"no byte moved for 0:00:00\.5"):
            drain(PostgresSource(parse(postgres18.url(database), field="url"), hasty))
        assert sessions_end(postgres18, "reconciler/fault")


PARENT = """
import sys
from threading import Event
from reconciler.postgres.dump import Manners
from reconciler.postgres.source import PostgresSource
from reconciler.postgres.url import parse
from reconciler.world.clock import SystemClock

source = PostgresSource(parse(sys.stdin.read(), field="url"), Manners(clock=SystemClock(), stop=Event()))
with source.dump("orphan", expect=None) as dump:
    list(dump.chunks())
"""


@pytest.mark.parametrize("whom", [("parent",), ("guardian",), ("pg_dump",), ("parent", "guardian", "pg_dump")], ids="+".join)
def test_a_kill_behind_a_lock(postgres: Server, whom: tuple[str, ...]) -> None:
    """A `kill -9` of us, the guardian, pg_dump or all at once leaves no process and no session, though they wait for a lock."""
    database = postgres.new_database("CREATE TABLE t (v int)")

    with postgres.connect(database) as holder:
        holder.execute("BEGIN; LOCK TABLE t IN ACCESS EXCLUSIVE MODE")
        parent = subprocess.Popen(
            [sys.executable, "-c", PARENT], stdin=subprocess.PIPE, env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
        )
        assert parent.stdin is not None
        parent.stdin.write(postgres.url(database).encode())
        parent.stdin.close()
        assert comes_true(lambda: is_blocked(postgres, "reconciler/orphan"))
        (guardian,) = children(parent.pid)
        (pg_dump,) = programs(guardian)
        pids = {"parent": parent.pid, "guardian": guardian, "pg_dump": pg_dump}
        kill_all(*(pids[name] for name in whom))

        assert parent.wait(60) != 0
        assert comes_true(lambda: not is_running(guardian) and not is_running(pg_dump))
        assert sessions_end(postgres, "reconciler/orphan")


def test_sessions_that_were_left_behind_are_ended(postgres: Server, open_source: Open) -> None:
    """Those of that id and role, and no others; our own is not among them."""
    role, other = postgres.new_role(), postgres.new_role()
    database = postgres.new_database()
    ours = f"{postgres.url(database, user=role)}?application_name="
    source = open_source(ours + "reconciler/x")

    with (
        psycopg.connect(ours + "reconciler/dead"),
        psycopg.connect(ours + "reconciler/alive"),
        psycopg.connect(f"{postgres.url(database, user=other)}?application_name=reconciler/dead"),
    ):
        ended = source.end_sessions("dead")

        assert 1 == ended
        assert comes_true(lambda: postgres.sessions("reconciler/dead") == 1)
        assert 1 == postgres.sessions("reconciler/alive")


def test_no_client_is_new_enough(postgres18: Server, manners: Manners) -> None:
    """The sentence says what was found where, and what to install."""
    old = msgspec.structs.replace(manners, client_bin=BINARIES[16])

    with pytest.raises(Refused, match=rf"found was 16\..* in {BINARIES[16]}") as refusal:
        drain(PostgresSource(parse(postgres18.url("postgres"), field="url"), old))

    assert "postgresql-client-18" in refusal.value.cure


def test_a_password_in_an_odd_place(postgres18: Server, open_source: Open) -> None:
    """A failing dump shows no password, whatever pg_dump says of it."""
    role = postgres18.new_role()
    database = postgres18.new_database("CREATE TABLE t (v int)")
    postgres18.execute(f"GRANT SELECT ON t TO {role}", database)
    postgres18.execute(f"ALTER ROLE {role} CONNECTION LIMIT 1")

    with pytest.raises(ReconcilerError) as failure:
        drain(open_source(postgres18.url(database, user=role)))

    assert PASSWORD not in all_text(failure.value)
    assert "too many connections" in str(failure.value)
