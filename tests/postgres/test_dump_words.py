"""What pg_dump says: the table at hand, and the reason of a failure, however much it says before."""

from collections.abc import Callable

from reconciler.postgres.source import PostgresSource
from reconciler.postgres.words import Words
from tests.servers.postgres import Server

Open = Callable[[str], PostgresSource]


def test_what_is_only_told_is_no_complaint() -> None:
    """The first error is kept behind any number of remarks, with its detail and what the server said in several lines."""
    words = Words()
    for number in range(1000):
        words.hear(f'pg_dump: dumping contents of table "public.t{number}"')
        words.hear("pg_dump: error: as a line in a table's name may say")
        words.hear("pg_dump: reading user-defined tables")
    said = [
        "pg_dump: error: query failed: ERROR:  no",
        "CONTEXT:  somewhere",
        "pg_dump: detail: Query was: X",
        "pg_dump: hint: Y",
    ]
    for line in said:
        words.hear(line)

    assert "public.t999" == words.at_hand
    assert "\n".join(said) == words.complaints


def test_the_table_at_hand(postgres: Server, open_source: Open) -> None:
    """Each of them in its turn, by any name, on each major."""
    names = ("aaa", 'Odd "name" of mine', "zzz")
    rows = "SELECT repeat(md5(i::text), 40) AS v FROM generate_series(1, 4000) i"
    tables = "; ".join('CREATE TABLE "{}" AS {}'.format(name.replace('"', '""'), rows) for name in names)
    source = open_source(postgres.url(postgres.new_database(tables)))

    with source.dump("words", expect=None) as dump:
        before = dump.at_hand
        seen = [dump.at_hand for _ in dump.chunks()]

    assert "" == before
    assert {f"public.{name}" for name in names} <= set(seen)
