"""Rule 10, broken on purpose where it lies, one sentence at a time. The simulated worlds have no PostgreSQL to see it."""

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from functools import wraps
from pathlib import Path
from typing import Any

import msgspec
import pytest
from psycopg import sql

from reconciler.postgres import checks, conninfo, contents, fingerprint, hostile, throwaway
from reconciler.postgres import room as room_module
from reconciler.postgres.contents import Entry, Listed, use_list
from reconciler.postgres.counting import count
from reconciler.postgres.environment import child_environment
from reconciler.postgres.fingerprint_rows import Table, read_tables
from reconciler.postgres.room import PostgresRoom
from reconciler.postgres.session import Session, session
from reconciler.world.account import Account
from reconciler.world.facts import Globals
from tests.mutation import Patch, by_name


def comes_back(*kinds: str) -> Patch:
    """What is of these kinds is restored like anything else."""

    def patch_it(patch: pytest.MonkeyPatch) -> None:
        assert set(kinds) <= set(hostile.LEFT_OUT)
        patch.setattr(hostile, "LEFT_OUT", {kind: why for kind, why in hostile.LEFT_OUT.items() if kind not in kinds})

    patch_it.__name__ = f"{kinds[0].lower().replace(' ', '_')}_comes_back"
    patch_it.__doc__ = f"Event triggers, subscriptions, foreign servers and their mappings are left out: {kinds[0]} is not."
    return patch_it


def what_is_left_out_is_not_named(patch: pytest.MonkeyPatch) -> None:
    """… and named: nobody learns what a rehearsal did not prove."""
    restorable = hostile.restorable
    patch.setattr(hostile, "restorable", lambda *args: (restorable(*args)[0], ()))


def extensions_are_made_by_the_archive(patch: pytest.MonkeyPatch) -> None:
    """Extensions are made beforehand from those that the manifest lists: and not by whatever the archive says."""
    restorable = hostile.restorable

    def all_of_it(listed: Listed, made: Any) -> tuple[tuple[Entry, ...], tuple[str, ...]]:
        kept, left = restorable(listed, made)
        return (*kept, *(entry for entry in listed.entries if entry.kind == "EXTENSION")), left

    patch.setattr(hostile, "restorable", all_of_it)


def names_forge_entries(patch: pytest.MonkeyPatch) -> None:
    """Event triggers are left out: but for one whose number a table's name gives to something harmless."""
    entries = contents._entries
    patch.setattr(contents, "_entries", lambda text: entries("\n".join(text.splitlines())))


def what_speaks_of_the_left_out_comes_back(patch: pytest.MonkeyPatch) -> None:
    """… are left out: with what is said of them."""
    patch.setattr(hostile, "_about_left_out", lambda entry: "")


OF_LISTS = by_name(
    comes_back("EVENT TRIGGER"),
    comes_back("SUBSCRIPTION"),
    comes_back("PUBLICATION"),
    comes_back("SERVER", "FOREIGN SERVER"),
    comes_back("USER MAPPING"),
    comes_back("FOREIGN TABLE"),
    what_is_left_out_is_not_named,
    extensions_are_made_by_the_archive,
    names_forge_entries,
    what_speaks_of_the_left_out_comes_back,
)
"""Noticed by the properties over tables of contents."""


def as_another(patch: pytest.MonkeyPatch, method: str, **who: str) -> None:
    """A step of a rehearsal enters with the keys of another: `owner="admin"`."""
    step = getattr(PostgresRoom, method)

    @wraps(step)
    def entered(self: PostgresRoom, *args: Any, **options: Any) -> Any:
        keys = self._keys
        self._keys = msgspec.structs.replace(keys, **{name: getattr(keys, other) for name, other in who.items()})
        try:
            return step(self, *args, **options)
        finally:
            self._keys = keys

    patch.setattr(PostgresRoom, method, entered)


def gets(patch: pytest.MonkeyPatch, role: str, right: str) -> None:
    """One of a rehearsal's own roles is made with a right: `ALTER ROLE {} …`, or `GRANT … TO {}`."""
    make_role = hostile.make_role

    def make(admin: Session, create: sql.Composed, name: str, mark: str) -> None:
        make_role(admin, create, name, mark)
        if name.endswith(f"_{role}"):
            admin.execute(right.format(f'"{name}"').encode())

    patch.setattr(hostile, "make_role", make)


def the_superuser_restores(patch: pytest.MonkeyPatch) -> None:
    """Restores run as a role made for that scratch database."""
    as_another(patch, "_run_restore", owner="admin")


def the_owner_is_a_superuser(patch: pytest.MonkeyPatch) -> None:
    """No superuser."""
    gets(patch, "owner", "ALTER ROLE {} SUPERUSER")


def the_owner_may_make_roles(patch: pytest.MonkeyPatch) -> None:
    """No createrole."""
    gets(patch, "owner", "ALTER ROLE {} CREATEROLE")


def the_owner_may_run_programs(patch: pytest.MonkeyPatch) -> None:
    """None of the pg_*_server_* roles: pg_execute_server_program."""
    gets(patch, "owner", "GRANT pg_execute_server_program TO {}")


def the_owner_may_write_files(patch: pytest.MonkeyPatch) -> None:
    """None of the pg_*_server_* roles: pg_write_server_files."""
    gets(patch, "owner", "GRANT pg_write_server_files TO {}")


def the_owner_may_read_files(patch: pytest.MonkeyPatch) -> None:
    """None of the pg_*_server_* roles: pg_read_server_files."""
    gets(patch, "owner", "GRANT pg_read_server_files TO {}")


def the_reader_is_a_superuser(patch: pytest.MonkeyPatch) -> None:
    """… or merely reads it in a READ ONLY transaction."""
    gets(patch, "reader", "ALTER ROLE {} SUPERUSER")


def the_reader_may_run_programs(patch: pytest.MonkeyPatch) -> None:
    """Checks run as a role that has none of the pg_*_server_* roles either."""
    gets(patch, "reader", "GRANT pg_execute_server_program TO {}")


def the_superuser_asks_the_checks(patch: pytest.MonkeyPatch) -> None:
    """Checks run as a role made for that scratch database."""
    as_another(patch, "check", reader="admin")


def the_owner_asks_the_checks(patch: pytest.MonkeyPatch) -> None:
    """Checks run as a role that only reads: not as the one whose all of it is."""
    as_another(patch, "check", reader="owner")


def checks_may_write(patch: pytest.MonkeyPatch) -> None:
    """… in a READ ONLY transaction."""
    ask = checks._ask

    def asked(connection: Session, statement: str, milliseconds: int) -> str | None:
        return ask(_Unbound(connection), statement, milliseconds)  # type: ignore[arg-type]  # it stands for one

    patch.setattr(checks, "_ask", asked)


class _Unbound:
    """A session that begins no transaction READ ONLY."""

    def __init__(self, connection: Session) -> None:
        self._connection = connection

    def execute(self, query: Any, *args: Any, **options: Any) -> Any:
        return self._connection.execute("BEGIN" if query == "BEGIN TRANSACTION READ ONLY" else query, *args, **options)


def the_superuser_compares(patch: pytest.MonkeyPatch) -> None:
    """… when a superuser merely reads it: a fingerprint does, unless it queries no stranger's table."""
    as_another(patch, "compare", owner="admin")

    def trusting(connection: Session) -> list[Table]:
        return [msgspec.structs.replace(table, stranger=None) for table in read_tables(connection)]

    patch.setattr(fingerprint, "read_tables", trusting)


def the_superuser_looks_at_pages(patch: pytest.MonkeyPatch) -> None:
    """… when a superuser merely reads it: an index is looked through by calling what it calls."""
    as_another(patch, "inspect", owner="admin")


def the_superuser_counts_rows(patch: pytest.MonkeyPatch) -> None:
    """… when a superuser merely reads it: he asks catalogs alone."""

    def count_rows(admin: Session, *args: Any, **options: Any) -> Any:
        admin.execute("SELECT count(*) FROM public.planned")
        return count(admin, *args, **options)

    patch.setattr(room_module, "count", count_rows)


def the_superuser_calls_what_he_finds(patch: pytest.MonkeyPatch) -> None:
    """… when a superuser merely reads it: his functions are the server's own, whatever others are called alike."""

    @contextmanager
    def searching(*args: Any) -> Iterator[Session]:
        with session(*args) as connection:
            connection.execute("RESET search_path")
            yield connection

    patch.setattr(room_module, "session", searching)


def roles_come_with_their_rights(patch: pytest.MonkeyPatch) -> None:
    """A role made for that scratch database: and those that rights name, without any."""
    make_roles = hostile.make_roles

    def make(admin: Session, wanted: Globals) -> None:
        make_roles(admin, wanted)
        for role in (role for role in wanted.roles if role.superuser):
            admin.execute(sql.SQL("ALTER ROLE {} SUPERUSER").format(sql.Identifier(role.name)))

    patch.setattr(hostile, "make_roles", make)


def extensions_that_reach_beyond_are_made(patch: pytest.MonkeyPatch) -> None:
    """Extensions are made beforehand: none that is there to reach other servers."""
    patch.setattr(hostile, "REACHING", frozenset())


def untrusted_languages_stay(patch: pytest.MonkeyPatch) -> None:
    """Extensions are made beforehand: no language in which a function is whatever the server's account may do."""
    patch.setattr(hostile, "UNTRUSTED", "SELECT WHERE false")


def extensions_keep_their_tables(patch: pytest.MonkeyPatch) -> None:
    """Restores run as a role: and none of what it makes runs as the superuser whose table it refers to."""

    def lend(admin: Session, owner: str, keeper: str) -> None:
        for name, _ in admin.execute(hostile.CONFIGURED).fetchall():
            admin.execute(sql.SQL("GRANT ALL ON {} TO {}").format(sql.SQL(name), sql.Identifier(owner)))

    patch.setattr(hostile, "_lend_tables", lend)


def plain_sql_is_piped_into_psql(patch: pytest.MonkeyPatch) -> None:
    """Plain SQL is never piped into psql. No code of ours does: this is what it would be."""

    def restore(self: PostgresRoom, source: Iterator[bytes], complaints: Any, reading: dict[str, str], *, jobs: int) -> None:
        address = self._keys.owner.for_child(room_module.NAME, reading)
        with use_list(entry.number for entry in self._entries) as chosen:
            program = self._tools.folder / "pg_restore"
            said = subprocess.run(
                [program, "--no-owner", f"--use-list={chosen}", "--file=-"],
                input=b"".join(source), env=address.environment, stdout=subprocess.PIPE, check=True,
            )  # fmt: skip
        subprocess.run(
            [self._tools.folder / "psql", "--quiet", f"--dbname={address.conninfo}"],
            input=said.stdout, env=address.environment, capture_output=True, check=True,
        )  # fmt: skip

    patch.setattr(PostgresRoom, "_run_restore", restore)


def programs_inherit_our_environment(patch: pytest.MonkeyPatch) -> None:
    """Empty environment: of the programs that read what is hostile, too."""
    for module in (conninfo, contents):
        patch.setattr(module, "child_environment", lambda password: {**os.environ, **child_environment(password)})


OF_REHEARSALS = by_name(
    what_is_left_out_is_not_named,
    comes_back("PUBLICATION"),
    the_superuser_restores,
    the_owner_is_a_superuser,
    the_owner_may_make_roles,
    the_owner_may_run_programs,
    the_owner_may_write_files,
    the_owner_may_read_files,
    the_reader_is_a_superuser,
    the_reader_may_run_programs,
    the_superuser_asks_the_checks,
    the_owner_asks_the_checks,
    checks_may_write,
    the_superuser_compares,
    the_superuser_looks_at_pages,
    the_superuser_counts_rows,
    the_superuser_calls_what_he_finds,
    roles_come_with_their_rights,
    extensions_that_reach_beyond_are_made,
    untrusted_languages_stay,
    extensions_keep_their_tables,
    plain_sql_is_piped_into_psql,
    programs_inherit_our_environment,
)
"""Noticed by a rehearsal of what was planted."""


def set_otherwise(patch: pytest.MonkeyPatch, **settings: str) -> None:
    """The last word of a setting counts."""
    said = {line.partition(" = ")[0] for line in throwaway.SETTINGS}
    assert set(settings) <= said, "the setting has its default, or another name"
    patch.setattr(throwaway, "SETTINGS", (*throwaway.SETTINGS, *(f"{name} = {value}" for name, value in settings.items())))


def it_listens(patch: pytest.MonkeyPatch) -> None:
    """No TCP."""
    set_otherwise(patch, listen_addresses="'*'")


def its_folder_is_open(patch: pytest.MonkeyPatch) -> None:
    """Socket in a 0700 folder."""
    place = throwaway._place

    @contextmanager
    def opened(home: Path, account: Account | None) -> Iterator[Path]:
        with place(home, account) as folder:
            folder.chmod(0o755)
            yield folder

    patch.setattr(throwaway, "_place", opened)


def it_is_told_what_we_are_told(patch: pytest.MonkeyPatch) -> None:
    """Empty environment."""
    environment = throwaway._environment
    patch.setattr(throwaway, "_environment", lambda: {**os.environ, **environment()})


def it_archives(patch: pytest.MonkeyPatch) -> None:
    """`archive_mode=off`."""
    set_otherwise(patch, archive_mode="on", wal_level="replica")


def it_can_be_replicated(patch: pytest.MonkeyPatch) -> None:
    """No replication."""
    set_otherwise(patch, max_wal_senders="5", wal_level="replica")


def it_keeps_slots(patch: pytest.MonkeyPatch) -> None:
    """No replication: nobody waits for what it writes."""
    set_otherwise(patch, max_replication_slots="5")


def it_applies_subscriptions(patch: pytest.MonkeyPatch) -> None:
    """No replication: nor does it follow others."""
    set_otherwise(patch, max_logical_replication_workers="4")


def it_runs_jobs(patch: pytest.MonkeyPatch) -> None:
    """No scheduled jobs: of libraries that a server loads when it starts."""
    set_otherwise(patch, shared_preload_libraries="'pg_prewarm'")


def it_vacuums(patch: pytest.MonkeyPatch) -> None:
    """No scheduled jobs: the server's own would call what was restored."""
    set_otherwise(patch, autovacuum="on")


OF_SERVERS = by_name(
    it_listens,
    its_folder_is_open,
    it_is_told_what_we_are_told,
    it_archives,
    it_can_be_replicated,
    it_keeps_slots,
    it_applies_subscriptions,
    it_runs_jobs,
    it_vacuums,
)
"""Noticed by a look at a throw-away server."""
