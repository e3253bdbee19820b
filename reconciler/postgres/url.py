"""From a url (a secret) or keyword conninfo to an address. No refusal shows any part of the text."""

import re
from collections.abc import Mapping
from typing import NoReturn

import psycopg
from psycopg.conninfo import conninfo_to_dict

from reconciler.errors import Refused
from reconciler.postgres.conninfo import Conninfo

SCHEMES = ("postgres://", "postgresql://")
UNSEEN = ("sslpassword", "oauth_client_secret", "scram_client_key", "scram_server_key")
"""Secrets that libpq takes from the conninfo alone: pg_dump would show them in its arguments."""
FOREIGN = ("pgbouncer", "connection_limit", "pool_timeout", "schema", "sslaccept", "statement_cache_size")
"""Parameters of other libraries' urls, which libpq refuses. Only these are named:
an unknown word may be part of a password."""
SHAPE = (
    "write it as postgres://user:password@host:5432/database, "
    "with @ : / ? % in the password as %40 %3A %2F %3F %25, and = in options as %3D"
)


def parse(text: str, *, field: str) -> Conninfo:
    """Read a url or keyword conninfo; `field` is where it stands, e.g. `databases.hotel.source.url`. Raises Refused."""
    _refuse_ambiguous(text, field)
    parameters = _parsed(text)
    if parameters is None:
        alien = [name for name in FOREIGN if re.search(rf"[?&]{name}=", text)]
        cure = f"remove {', '.join(alien)}, which libpq does not know" if alien else SHAPE
        _refuse(field, "is not one that libpq can read (it is not shown, as it may hold a password)", cure)
    _refuse_unfit(parameters, field)
    _refuse_misread(parameters, field)
    _refuse_pooled(parameters.get("host", "").split(","), field)
    return Conninfo(parameters)


def _refuse(field: str, what: str, cure: str = SHAPE) -> NoReturn:
    raise Refused(f"{field} {what}", cure=cure)


def _refuse_ambiguous(text: str, field: str) -> None:
    """Refuse an unescaped `@` or `/` in a password, which would make the rest of it a host or a database that messages show."""
    scheme = next((scheme for scheme in SCHEMES if text.startswith(scheme)), None)
    if scheme is None:
        if re.match(r"\s*[A-Za-z0-9+.-]+:/", text):
            _refuse(field, "does not begin with postgres:// or postgresql://")
        return
    rest = text.removeprefix(scheme)
    before, at, after = rest.partition("@")
    address = after if at and "/" not in before else rest
    if "@" in address.partition("?")[0]:
        _refuse(field, "holds an @ or a / that is not percent-encoded")


def _parsed(text: str) -> dict[str, str] | None:
    # The library's message quotes the text. Returning None instead of raising keeps it out of the chain of exceptions, too.
    if "\0" in text:
        return None
    try:
        return {name: str(value) for name, value in conninfo_to_dict(text).items() if value is not None and value != ""}
    except (psycopg.Error, UnicodeError):
        return None


def _refuse_unfit(parameters: Mapping[str, str], field: str) -> None:
    """Refuse what libpq would take, and we can't: what is hidden elsewhere, and what must be guessed."""
    if "service" in parameters or "servicefile" in parameters:
        _refuse(field, "names a libpq service, which hides what is backed up", "write host, port and dbname in the url itself")
    for name in UNSEEN:
        if name in parameters:
            _refuse(
                field, f"holds {name}, which cannot be handed to pg_dump unseen", "use a password, or a key without a passphrase"
            )
    if "host" not in parameters and "hostaddr" not in parameters:
        _refuse(field, "names no host", "name one, e.g. localhost, or host=/var/run/postgresql for a unix socket")
    if "dbname" not in parameters:
        _refuse(field, "names no database")


def _refuse_misread(parameters: Mapping[str, str], field: str) -> None:
    """Refuse hosts and ports that are none: most likely a password's special characters were not percent-encoded."""
    hosts = parameters.get("host", "").split(",")
    if not all(host.startswith(("/", "@")) or _is_host(host) for host in hosts):
        _refuse(field, "has a host that is no host name")
    if not all(_is_port(port) for port in parameters.get("port", "").split(",")):
        _refuse(field, "has a port that is not a number from 1 to 65535")


def _is_host(text: str) -> bool:
    try:
        text.encode("idna")  # as the resolver will, which raises this very error in the middle of connecting
    except UnicodeError:
        return False
    return re.search(r"[\s@%?#=]", text) is None


def _is_port(text: str) -> bool:
    return text == "" or (text.isascii() and text.isdigit() and 1 <= int(text) <= 65535)


def _refuse_pooled(hosts: list[str], field: str) -> None:
    """Refuse Neon's pooled hosts: a pooler gives each transaction another session, and a snapshot belongs to one."""
    for host in hosts:
        label, dot, rest = host.partition(".")
        if label.endswith("-pooler"):
            direct = label.removesuffix("-pooler") + dot + rest
            _refuse(field, f"names the pooled host {host}, which cannot hold a dump's snapshot", f"use the direct host {direct}")
