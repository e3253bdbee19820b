"""Rule 10 with the real program: what pg_restore lists of names that would like to be more than names."""

from reconciler.postgres.client import Client
from reconciler.postgres.contents import listing
from reconciler.postgres.dump import Manners
from reconciler.postgres.hostile import restorable
from tests.servers.postgres import BINARIES, Server


def test_no_name_forges_an_entry(postgres18: Server, manners: Manners) -> None:
    """Python ends lines where pg_restore does not: a table's name would bring the event trigger back by its number."""
    name = postgres18.new_database(options="TEMPLATE template0")
    trigger = "CREATE FUNCTION spy() RETURNS event_trigger LANGUAGE plpgsql AS 'BEGIN END'; " + (
        "CREATE EVENT TRIGGER watch ON ddl_command_end EXECUTE FUNCTION spy()"
    )
    postgres18.execute(f"CREATE TABLE plain (i int); {trigger}", name)
    program = Client(folder=BINARIES[18], version="18", major=18)

    def entries() -> dict[str, int]:
        archive = postgres18.run("pg_dump", "-Fc", database=name)
        listed, _ = listing(program, iter([archive]), manners)
        found.update(kept={entry.number for entry in restorable(listed, ())[0]})
        return {entry.kind: entry.number for entry in listed.entries}

    found: dict[str, set[int]] = {}
    number = entries()["EVENT TRIGGER"]
    for end in ("\u2028", "\x0b", "\x85"):
        postgres18.execute(
            f'ALTER TABLE {_only_table(postgres18, name)} RENAME TO "x{end}{number}; 1 1 TABLE public y ana"', name
        )
        assert number == entries()["EVENT TRIGGER"]
        assert number not in found["kept"]


def _only_table(server: Server, name: str) -> str:
    return str(server.execute("SELECT oid::regclass::text FROM pg_class WHERE relkind = 'r' AND oid >= 16384", name)[0][0])
