"""One table out of a directory archive, by the real pg_restore."""

from pathlib import Path

import pytest

from reconciler.backups.one_table import Chosen, one_table
from reconciler.backups.toc import read_toc
from reconciler.errors import Refused
from tests.backups.test_tarred import dumped
from tests.servers.postgres import Server, postgres, postgres18, postgres_servers

__all__ = ["postgres", "postgres18", "postgres_servers"]

SHOP = """
CREATE SCHEMA shop; CREATE TYPE shop.mood AS ENUM ('good', 'bad');
CREATE TABLE shop.buyers (id serial PRIMARY KEY, name text);
CREATE TABLE shop.orders (id serial PRIMARY KEY, buyer int REFERENCES shop.buyers, felt shop.mood DEFAULT 'good',
    n int CHECK (n > 0), lines bigint GENERATED ALWAYS AS IDENTITY);
CREATE INDEX by_mood ON shop.orders (felt); CREATE VIEW shop.happy AS SELECT * FROM shop.orders WHERE felt = 'good';
COMMENT ON TABLE shop.orders IS 'what was sold';
INSERT INTO shop.buyers (name) SELECT 'b' || n FROM generate_series(1, 50) n;
INSERT INTO shop.orders (buyer, n) SELECT n, n FROM generate_series(1, 50) n;
"""


YEARS = """
CREATE SCHEMA log; CREATE TABLE log.of_all (id bigint GENERATED ALWAYS AS IDENTITY, at date NOT NULL, PRIMARY KEY (id, at))
    PARTITION BY RANGE (at);
CREATE TABLE log.of_2024 PARTITION OF log.of_all FOR VALUES FROM ('2024-01-01') TO ('2025-01-01');
CREATE TABLE log.of_2025 PARTITION OF log.of_all FOR VALUES FROM ('2025-01-01') TO ('2026-01-01') PARTITION BY RANGE (at);
CREATE TABLE log.of_2025_all PARTITION OF log.of_2025 DEFAULT;
CREATE INDEX by_day ON log.of_all (at); CREATE TABLE log.other AS SELECT 1 AS v;
INSERT INTO log.of_all (at) SELECT date '2024-01-01' + n FROM generate_series(0, 599) n;
"""


def restored(server: Server, database: str, table: str, folder: Path) -> tuple[str, Chosen]:
    """Into a new database, from a folder in which no other files are."""
    archive = dumped(server, database, folder / "archive")
    chosen = one_table(read_toc((archive / "toc.dat").read_bytes()), table)
    for file in archive.iterdir():
        if file.name not in ("toc.dat", *chosen.files):
            file.unlink()
    listed, copy = folder / "list", server.new_database()
    listed.write_text("".join(f"{number};\n" for number in chosen.entries))
    server.run("pg_restore", "--exit-on-error", "--single-transaction", f"--use-list={listed}", str(archive), database=copy)
    return copy, chosen


def test_a_table(postgres: Server, tmp_path: Path) -> None:
    """With its rows, type, sequences, defaults and indexes; without the table that it refers to, whose file is not there."""
    copy, chosen = restored(postgres, postgres.new_database(SHOP), "shop.orders", tmp_path)

    assert 1 == len(chosen.files)
    assert ("FK CONSTRAINT shop: orders orders_buyer_fkey",) == chosen.left_out
    assert [("orders",)] == postgres.execute("SELECT tablename::text FROM pg_tables WHERE schemaname = 'shop'", copy)
    assert [(50, 1275)] == postgres.execute("SELECT count(*), sum(n) FROM shop.orders", copy)
    postgres.execute("INSERT INTO shop.orders (n) VALUES (7)", copy)
    assert [(51, "good", 51)] == postgres.execute(
        "SELECT id, felt::text, lines FROM shop.orders WHERE n = 7 AND buyer IS NULL", copy
    )
    indexes = postgres.execute("SELECT indexname FROM pg_indexes WHERE schemaname = 'shop' ORDER BY 1", copy)
    assert [("by_mood",), ("orders_pkey",)] == indexes


def test_what_others_say_of_it_is_not_left_out_of_it(postgres18: Server, tmp_path: Path) -> None:
    """A foreign key is of the table that has it, and not of the one that it names."""
    _, chosen = restored(postgres18, postgres18.new_database(SHOP), "shop.buyers", tmp_path)

    assert () == chosen.left_out


def test_a_table_that_refers_to_itself(postgres: Server, tmp_path: Path) -> None:
    """All that such a foreign key speaks of is there."""
    tree = "CREATE TABLE tree (id int PRIMARY KEY, above int REFERENCES tree); INSERT INTO tree VALUES (1, 2), (2, NULL)"
    copy, chosen = restored(postgres, postgres.new_database(tree), "public.tree", tmp_path)

    assert () == chosen.left_out
    assert [("tree_above_fkey", True)] == postgres.execute(
        "SELECT conname, convalidated FROM pg_constraint WHERE contype = 'f'", copy
    )


def test_a_partitioned_table(postgres: Server, tmp_path: Path) -> None:
    """Its rows are in its partitions, which come with it, indexes attached."""
    copy, chosen = restored(postgres, postgres.new_database(YEARS), "log.of_all", tmp_path)

    assert 2 == len(chosen.files)
    assert () == chosen.left_out
    assert [(600,)] == postgres.execute("SELECT count(*) FROM log.of_all", copy)
    assert [] == postgres.execute("SELECT 1 FROM pg_index WHERE NOT indisvalid", copy)


@pytest.mark.parametrize(("table", "rows"), [("log.of_2024", 366), ("log.of_2025", 234), ("log.of_2025_all", 234)])
def test_a_partition(postgres: Server, tmp_path: Path, table: str, rows: int) -> None:
    """It comes as a table of its own, with its indexes; that it was a part of another is told."""
    copy, chosen = restored(postgres, postgres.new_database(YEARS), table, tmp_path)

    assert [(rows,)] == postgres.execute(f"SELECT count(*) FROM {table}", copy)
    assert [(2,)] == postgres.execute(f"SELECT count(*) FROM pg_index WHERE indrelid = '{table}'::regclass", copy)
    assert [] == postgres.execute("SELECT 1 FROM pg_class WHERE relname = 'of_all'", copy)
    assert (f"TABLE ATTACH {table.replace('.', ': ')}",) == chosen.left_out


def test_a_table_whose_rows_were_left_out_of_the_dump(postgres18: Server, tmp_path: Path) -> None:
    """That it comes back empty is told; an empty table that was dumped with its rows, all none of them, is whole."""
    database = postgres18.new_database(SHOP + "CREATE TABLE shop.bare (n int);")
    entries = read_toc((dumped(postgres18, database, tmp_path / "archive") / "toc.dat").read_bytes())
    without = [entry for entry in entries if (entry.kind, entry.name) != ("TABLE DATA", "buyers")]

    assert ("TABLE DATA shop: buyers",) == one_table(without, "shop.buyers").left_out
    assert () == one_table(entries, "shop.buyers").left_out == one_table(entries, "shop.bare").left_out


OWN_FUNCTIONS = """
CREATE FUNCTION bare(text) RETURNS text LANGUAGE sql IMMUTABLE AS $$ SELECT lower($1) $$;
CREATE TEXT SEARCH CONFIGURATION house (COPY = simple);
CREATE TABLE words (id int PRIMARY KEY, word text, other int); INSERT INTO words VALUES (1, 'Eins'), (2, 'Zwei');
CREATE INDEX by_word ON words (bare(word)); CREATE INDEX by_house ON words USING gin (to_tsvector('house', word));
ALTER TABLE words ADD CONSTRAINT said CHECK (bare(word) <> '') NOT VALID;
CREATE STATISTICS of_words ON (bare(word)), id FROM words;
CREATE FUNCTION looks(words) RETURNS int LANGUAGE sql IMMUTABLE AS 'SELECT $1.id';
CREATE INDEX by_row ON words (looks(words)); CREATE TABLE more () INHERITS (words); INSERT INTO more VALUES (3, 'Drei');
CREATE TABLE apart (id int); CREATE FUNCTION takes(words) RETURNS int LANGUAGE sql IMMUTABLE AS 'SELECT 1';
CREATE INDEX of_two ON apart ((takes(ROW(id, '', 0)::words)));
"""


def test_indexes_that_call_functions(postgres: Server, tmp_path: Path) -> None:
    """What indexes, constraints and statistics of the table need comes with them, though the table itself needs none of it."""
    copy, chosen = restored(postgres, postgres.new_database(OWN_FUNCTIONS), "public.words", tmp_path)

    assert [(2,)] == postgres.execute("SELECT count(*) FROM words", copy)
    indexes = postgres.execute("SELECT indexname FROM pg_indexes WHERE schemaname = 'public' ORDER BY 1", copy)
    assert [("by_house",), ("by_row",), ("by_word",), ("words_pkey",)] == indexes
    assert [("said",)] == postgres.execute("SELECT conname FROM pg_constraint WHERE contype = 'c' AND conrelid <> 0", copy)
    assert [("of_words",)] == postgres.execute("SELECT stxname FROM pg_statistic_ext", copy)
    # Of a table that inherits from it neither the table nor its rows come; and nothing of a third one.
    assert ("INDEX public: of_two", "TABLE public: more") == chosen.left_out


def test_two_tables_that_are_written_alike(postgres18: Server, tmp_path: Path) -> None:
    """Neither is restored in the place of the other."""
    database = postgres18.new_database(
        'CREATE SCHEMA a; CREATE SCHEMA "a.b"; CREATE TABLE a."b.c" (i int); CREATE TABLE "a.b".c (i int)'
    )

    with pytest.raises(Refused, match=r"2 tables that are written a\.b\.c"):
        restored(postgres18, database, "a.b.c", tmp_path)


def test_no_such_table(postgres18: Server, tmp_path: Path) -> None:
    """A view is none, and neither is a name in quotes; the sentence says how it is written."""
    folder = dumped(postgres18, postgres18.new_database(SHOP), tmp_path / "archive")
    entries = read_toc((folder / "toc.dat").read_bytes())

    for name in ("shop.happy", '"shop"."orders"', "orders", "public.orders"):
        with pytest.raises(Refused, match="has no table"):
            one_table(entries, name)
