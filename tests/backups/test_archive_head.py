"""What an archive says of the database that it is of."""

from pathlib import Path

import pytest

from reconciler.backups.archive import HEAD_BYTES, TAR, ArchiveHead, read_head
from reconciler.postgres import catalog
from reconciler.postgres.session import session
from reconciler.postgres.url import parse
from tests.servers.postgres import MAJORS, Server, Servers, postgres, postgres_servers

__all__ = ["postgres", "postgres_servers"]

OPTIONS = [
    *((major, "ENCODING 'LATIN1' LOCALE 'C'") for major in MAJORS),
    *((major, "ENCODING 'UTF8' LC_COLLATE 'C' LC_CTYPE 'C.utf8'") for major in MAJORS),
    *((15, f"ENCODING 'UTF8' LOCALE_PROVIDER icu ICU_LOCALE 'de' LOCALE '{name}'") for name in ("C", "C.utf8") if 15 in MAJORS),
    (18, "ENCODING 'UTF8' LOCALE_PROVIDER builtin BUILTIN_LOCALE 'C.UTF-8' LOCALE 'C'"),
]


def told(head: ArchiveHead) -> catalog.Locale:
    return catalog.Locale(
        encoding=head.encoding, collate=head.collate, ctype=head.ctype, provider=head.locale_provider, locale=head.locale
    )


@pytest.mark.parametrize(("major", "options"), OPTIONS)
def test_how_a_database_orders_and_encodes_text(major: int, options: str, postgres_servers: Servers, tmp_path: Path) -> None:
    """As the server tells it, in both formats, whatever the database is called."""
    server = postgres_servers(major)
    name = server.new_database(options=f"TEMPLATE template0 {options}")
    with session(parse(server.url(name), field="url"), "test") as connection:
        expected = catalog.locale(connection)
    odd = f"{name} \" WITH TEMPLATE = template0 ENCODING = 'E';"
    server.execute(f'ALTER DATABASE {name} RENAME TO "{odd.replace(chr(34), chr(34) * 2)}"')
    folder = tmp_path / "directory"
    archive = server.run("pg_dump", "--format=custom", database=_quoted(odd))
    server.run("pg_dump", "--format=directory", f"--file={folder}", database=_quoted(odd))

    head = read_head(archive[:HEAD_BYTES])

    assert expected == told(head) == told(read_head((folder / "toc.dat").read_bytes()[:HEAD_BYTES], TAR))
    assert odd == head.database


def test_an_archive_that_does_not_tell(postgres: Server) -> None:
    """Cut off behind its head, it is told by whom and of what it is."""
    name = postgres.new_database()
    head = read_head(postgres.run("pg_dump", "--format=custom", database=name)[:160])

    assert name == head.database
    assert "" == head.encoding == head.locale_provider


def _quoted(name: str) -> str:
    """As a value of libpq's connection strings."""
    return "'" + name.replace("\\", "\\\\").replace("'", "\\'") + "'"
