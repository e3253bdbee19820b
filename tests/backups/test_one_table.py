"""One table out of a directory archive, by the real pg_restore."""

from pathlib import Path

import pytest

from reconciler.backups.one_table import one_table
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


def test_a_table(postgres: Server, tmp_path: Path) -> None:
    """With its rows, type, sequences, defaults and indexes; without the table that it refers to, whose file is not there."""
    folder = dumped(postgres, postgres.new_database(SHOP), tmp_path / "archive")
    chosen = one_table(read_toc((folder / "toc.dat").read_bytes()), "shop.orders")
    for file in folder.iterdir():
        if file.name not in ("toc.dat", *chosen.files):
            file.unlink()
    listed = tmp_path / "list"
    listed.write_text("".join(f"{number};\n" for number in chosen.entries))
    copy = postgres.new_database()

    postgres.run("pg_restore", "--exit-on-error", "--single-transaction", f"--use-list={listed}", str(folder), database=copy)

    assert 1 == len(chosen.files)
    assert [("orders",)] == postgres.execute("SELECT tablename::text FROM pg_tables WHERE schemaname = 'shop'", copy)
    assert [(50, 1275)] == postgres.execute("SELECT count(*), sum(n) FROM shop.orders", copy)
    postgres.execute("INSERT INTO shop.orders (n) VALUES (7)", copy)
    assert [(51, "good", 51)] == postgres.execute(
        "SELECT id, felt::text, lines FROM shop.orders WHERE n = 7 AND buyer IS NULL", copy
    )
    indexes = postgres.execute("SELECT indexname FROM pg_indexes WHERE schemaname = 'shop' ORDER BY 1", copy)
    assert [("by_mood",), ("orders_pkey",)] == indexes


def test_no_such_table(postgres18: Server, tmp_path: Path) -> None:
    """A view is none, and neither is a name in quotes; the sentence says how it is written."""
    folder = dumped(postgres18, postgres18.new_database(SHOP), tmp_path / "archive")
    entries = read_toc((folder / "toc.dat").read_bytes())

    for name in ("shop.happy", '"shop"."orders"', "orders", "public.orders"):
        with pytest.raises(Refused, match="has no table"):
            one_table(entries, name)
