"""Amounts of type money, which are written as a locale has it."""

import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec
import pytest

from reconciler.errors import Refused
from reconciler.postgres.dump import Manners
from reconciler.postgres.scratch import ServerScratch
from reconciler.postgres.source import PostgresSource
from reconciler.postgres.url import parse
from reconciler.sandbox.postgres import FAST, remove_cluster, start_cluster
from reconciler.sandbox.serving import environment
from tests.postgres.taking import put, take
from tests.servers.postgres import BINARIES, Server

Open = Callable[[str], PostgresSource]
AMOUNTS = (
    "CREATE TABLE t (amount money); INSERT INTO t VALUES (1234.5::numeric), (-0.07);"
    "CREATE VIEW large AS SELECT * FROM t WHERE amount > 1000::money"
)
READ = "SELECT amount::numeric::text FROM t ORDER BY 1"


@pytest.fixture(scope="module")
def german() -> Iterator[Server]:
    """A server that has a German locale, and uses it where a database asks for it."""
    localedef = shutil.which("localedef")
    with tempfile.TemporaryDirectory(prefix="pg-") as folder:
        Path(folder).chmod(0o755)
        made = localedef and subprocess.run(
            [localedef, "-i", "de_DE", "-f", "UTF-8", f"{folder}/de_DE.utf8"], capture_output=True, check=False
        )
        if not made or made.returncode:
            pytest.skip("no German locale can be made here")
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("reconciler.sandbox.postgres.environment", lambda: {**environment(), "LOCPATH": folder})
            cluster = start_cluster(BINARIES[18], Path(folder) / "german", settings=FAST)
        try:
            yield Server(major=18, cluster=cluster)
        finally:
            remove_cluster(cluster.folder)


@pytest.fixture
def source(german: Server) -> str:
    """A database whose amounts are German."""
    name = german.new_database()
    german.execute(f"ALTER DATABASE {name} SET lc_monetary = 'de_DE.utf8'")
    german.execute(AMOUNTS, name)
    return name


def test_they_are_read_as_they_were_written(german: Server, source: str, open_source: Open, manners: Manners) -> None:
    """Though the server that they come to writes them otherwise by itself."""
    copy = german.new_database(options="TEMPLATE template0")

    put(german.url(copy), take(open_source(german.url(source))), manners)

    assert [("1.234,50 €",)] == german.execute("SELECT amount::text FROM t ORDER BY amount DESC LIMIT 1", source)
    assert [("-0.07",), ("1234.50",)] == german.execute(READ, copy)


def test_a_server_that_can_not_read_them(
    german: Server, source: str, postgres18: Server, open_source: Open, manners: Manners
) -> None:
    """It is refused before anything is there; and a rehearsal proves nothing against the backup."""
    taken = take(open_source(german.url(source)))
    copy = postgres18.new_database(options="TEMPLATE template0")
    scratch = ServerScratch(parse(postgres18.url("postgres"), field="url"), manners, lambda _: None, lambda: ())

    with pytest.raises(Refused, match=r"de_DE.utf8 writes them .*1.234.567,89") as refusal:
        put(postgres18.url(copy), taken, manners)
    with scratch.room(taken.facts, taken.globals) as room, pytest.raises(Refused, match="lc_monetary"):
        room.restore(taken.chunks, raw_bytes=1)

    assert "locale-gen" in refusal.value.cure
    assert [] == postgres18.execute("SELECT FROM pg_class WHERE relname = 't'", copy)


def test_a_locale_that_is_called_otherwise(postgres: Server, open_source: Open, manners: Manners) -> None:
    """What counts is how it writes."""
    original = postgres.new_database(AMOUNTS)
    copy = postgres.new_database(options="TEMPLATE template0")
    taken = take(open_source(postgres.url(original)))
    elsewhere = msgspec.structs.replace(taken.globals, lc_monetary="English_United States.1252")

    put(postgres.url(copy), taken._replace(globals=elsewhere), manners)

    assert [("-0.07",), ("1234.50",)] == postgres.execute(READ, copy)


def test_a_database_without_amounts(postgres: Server, open_source: Open) -> None:
    """Nothing is asked of the server that it comes to."""
    taken = take(open_source(postgres.url(postgres.new_database("CREATE TABLE t (i int)"))))

    assert "" == taken.globals.money_sample
