"""Every server major at hand: what is backed up comes back by that major's own plain pg_restore, exactly."""

from tests.end_to_end.conftest import Stand
from tests.postgres.odd_schema import odd_database
from tests.servers.postgres import Server, postgres, postgres_servers

__all__ = ["postgres", "postgres_servers"]


def test_an_odd_database_comes_back(stand: Stand, postgres: Server) -> None:
    """The client has the server's major, the archive is plain pg_restore's, and pg_dump's text of both databases is equal."""
    database, again = odd_database(postgres), postgres.new_database(options="TEMPLATE template0")
    url = postgres.url(database)
    stand.run("apply", "--yes", SOURCE_URL=url)
    (one,) = stand.json("backups", "list", SOURCE_URL=url)["backups"]
    manifest = stand.json("backups", "show", one["id"], SOURCE_URL=url)
    stand.run("backups", "fetch", one["id"], "--output", "odd.dump", SOURCE_URL=url)
    archive = (stand.folder / "odd.dump").read_bytes()
    postgres.run("pg_restore", "--exit-on-error", "--single-transaction", database=again, stdin=archive)

    assert postgres.schema_text(database) == postgres.schema_text(again)
    assert str(postgres.major) == manifest["tools"]["pg_dump"].partition(".")[0]
    assert str(postgres.major) == manifest["source"]["server_version"].partition(".")[0]
