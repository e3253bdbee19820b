"""Values of type money: their text depends on a locale, and an archive does not say on which."""

from typing import LiteralString

import psycopg

from reconciler.errors import Refused
from reconciler.postgres.session import Session
from reconciler.world.facts import Globals

IS_USED: LiteralString = """
SELECT EXISTS (SELECT FROM pg_attribute
               WHERE atttypid IN ('money'::regtype, 'money[]'::regtype) AND attrelid >= 16384 AND NOT attisdropped)
    OR EXISTS (SELECT FROM pg_type WHERE typbasetype IN ('money'::regtype, 'money[]'::regtype) AND oid >= 16384)
    OR EXISTS (SELECT FROM pg_range WHERE rngsubtype = 'money'::regtype)
"""
WRITTEN: LiteralString = """
SELECT current_setting('lc_monetary'), encode(convert_to(
    concat_ws(' ', 1234567.89::numeric::money, (-1234567.89)::numeric::money), getdatabaseencoding()), 'escape')
"""
"""The locale, and what two amounts look like in it: locales have other names on other systems, and many write alike. Escaped,
since nobody sees to it that a locale is of the database's encoding."""


def money_written(connection: Session) -> tuple[str, str]:
    """The locale in which the current database's amounts are dumped, and a sample; both are empty where it has none."""
    if connection.execute(IS_USED).fetchall() == [(False,)]:
        return "", ""
    locale, sample = connection.execute(WRITTEN).fetchall()[0]
    return locale, sample


def reading_money(connection: Session, written: Globals, place: str) -> dict[str, str]:
    """The settings with which a client program reads amounts as they were written; none where the server does so anyway.

    Raises Refused where it can't: most amounts would be refused then, and some be taken for others.
    """
    if not written.money_sample or connection.execute(WRITTEN).fetchall()[0][1] == written.money_sample:
        return {}
    try:
        with connection.transaction():
            connection.execute("SELECT set_config('lc_monetary', %s, true)", (written.lc_monetary,))
            sample = connection.execute(WRITTEN).fetchall()[0][1]
    except psycopg.errors.InvalidParameterValue:
        sample = ""
    if sample != written.money_sample:
        raise Refused(
            f"the backup has amounts of type money as {written.lc_monetary} writes them ({written.money_sample}), "
            f"and {place} can't read them: its lc_monetary can't be set to that",
            cure="make that locale on the server's machine, e.g. by `locale-gen`, and restart the server",
        )
    return {"lc_monetary": written.lc_monetary.replace("\\", "\\\\").replace(" ", "\\ ")}
