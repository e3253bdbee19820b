"""What a database says of itself: identity, version, clock, encoding, extensions. Each function is one query."""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, LiteralString

import msgspec

from reconciler.postgres.session import Session
from reconciler.world.facts import Identity, SourceFacts

PROVIDER = "postgres"

FACTS = """
SELECT (SELECT system_identifier::text FROM pg_control_system()), current_database(), current_setting('server_version'),
       current_setting('server_version_num')::int / 10000, clock_timestamp(), pg_is_in_recovery()
"""
POSITION = """
SELECT CASE WHEN pg_is_in_recovery()
       THEN coalesce(pg_last_wal_replay_lsn(), pg_last_wal_receive_lsn()) ELSE pg_current_wal_lsn() END::text
"""
REPLAYED = "SELECT coalesce(pg_last_xact_replay_timestamp(), (SELECT checkpoint_time FROM pg_control_checkpoint()))"
"""A standby that replayed no commit since its start is at least as new as its last checkpoint."""
LOCALE = """
SELECT pg_encoding_to_char(encoding), datcollate, datctype,
       CASE datlocprovider WHEN 'c' THEN 'libc' WHEN 'i' THEN 'icu' WHEN 'b' THEN 'builtin' ELSE datlocprovider::text END,
       coalesce({}, '')
FROM pg_database WHERE datname = current_database()
"""
"""With the column that holds the locale of ICU or of the builtin provider."""
LOCALE_14 = """
SELECT pg_encoding_to_char(encoding), datcollate, datctype, 'libc', '' FROM pg_database WHERE datname = current_database()
"""


PROVIDER_OPTIONS: Mapping[str, LiteralString] = {
    "icu": " LOCALE_PROVIDER icu ICU_LOCALE {}",
    "builtin": " LOCALE_PROVIDER builtin BUILTIN_LOCALE {}",
}
"""What CREATE DATABASE is told for a locale that is not libc's."""


class Locale(msgspec.Struct, frozen=True, kw_only=True):
    """How a database orders and encodes text."""

    encoding: str
    collate: str
    ctype: str
    provider: str
    locale: str
    """Of ICU or of the builtin provider; empty for libc."""


def source_facts(connection: Session) -> SourceFacts:
    """Identity, version and clock."""
    cluster, database, version, major, clock, standby = _row(connection, FACTS)
    identity = Identity(provider=PROVIDER, cluster=cluster, database=database)
    return SourceFacts(
        identity=identity, server_version=version.split()[0], major=major, clock=clock.astimezone(UTC), standby=standby
    )


def position(connection: Session) -> str | None:
    """The WAL position: written on a primary, replayed on a standby."""
    found: str | None = _row(connection, POSITION)[0]
    return found


def replayed_until(connection: Session) -> datetime:
    """The instant of the last commit that a standby has."""
    instant: datetime = _row(connection, REPLAYED)[0]
    return instant.astimezone(UTC)


def locale(connection: Session) -> Locale:
    """The current database's encoding and locale."""
    version = connection.info.server_version
    column: LiteralString = "datlocale" if version >= 170000 else "daticulocale"
    query = LOCALE.replace("{}", column) if version >= 150000 else LOCALE_14
    encoding, collate, ctype, provider, name = _row(connection, query)
    return Locale(encoding=encoding, collate=collate, ctype=ctype, provider=provider, locale=name)


def available_extensions(connection: Session) -> dict[str, str]:
    """What the server could install, and which version that would be."""
    return dict(connection.execute("SELECT name, default_version FROM pg_available_extensions").fetchall())


def tablespaces(connection: Session) -> set[str]:
    """All that the server has."""
    return {row[0] for row in connection.execute("SELECT spcname FROM pg_tablespace")}


def extensions(connection: Session) -> dict[str, str]:
    """Installed extensions and their versions."""
    return dict(connection.execute("SELECT extname, extversion FROM pg_extension ORDER BY extname").fetchall())


def _row(connection: Session, query: LiteralString) -> tuple[Any, ...]:
    row = connection.execute(query).fetchone()
    assert row is not None  # noqa: S101  each of the queries has exactly one row
    return row
