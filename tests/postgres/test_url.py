"""From a url to an address, and what of it may be seen."""

import traceback

import pytest

from reconciler.errors import Refused
from reconciler.postgres.url import parse

HIDDEN = "hunter2"


@pytest.mark.parametrize(
    ("url", "place", "domain"),
    [
        ("postgres://u:p@db.internal/hotel", "postgres db.internal/hotel", "host:db.internal"),
        ("postgresql://u@DB.internal:6543/hotel?sslmode=verify-full", "postgres DB.internal:6543/hotel", "host:db.internal"),
        ("host=db.internal user=u password='p w' dbname=hotel", "postgres db.internal/hotel", "host:db.internal"),
        ("postgres://u:p@127.0.0.1:5433/hotel", "postgres 127.0.0.1:5433/hotel", "host:localhost"),
        ("postgres://u:p@[::1]:5433/hotel", "postgres ::1:5433/hotel", "host:localhost"),
        ("postgres://u:p@localhost/hotel", "postgres localhost/hotel", "host:localhost"),
        ("postgres:///hotel?host=/var/run/postgresql", "postgres /var/run/postgresql/hotel", "host:localhost"),
        ("postgres://u@%2Ftmp%2Fs/hotel", "postgres /tmp/s/hotel", "host:localhost"),
        ("postgres://u:p@a:1,b:2/hotel?target_session_attrs=read-write", "postgres a:1,b:2/hotel", "host:a,b"),
        ("hostaddr=10.0.0.7 dbname=hotel", "postgres 10.0.0.7/hotel", "host:10.0.0.7"),
        ("postgres://u:p%40ss%2Fw@h/a%20b", "postgres h/a b", "host:h"),
    ],
)
def test_a_url_that_is_right(url: str, place: str, domain: str) -> None:
    """Where it is, for people, and what fails together with it."""
    conninfo = parse(url, field="url")

    assert (place, domain) == (conninfo.place, conninfo.domain)


@pytest.mark.parametrize(
    "url",
    [
        f"postgres://u:p%ss{HIDDEN}@@host:badport/x",
        f"postgres://u:p%zz{HIDDEN}@host/x",
        f"postgres://u:{HIDDEN}@x@host/x",
        f"postgres://u:1/{HIDDEN}@host/x",
        f"postgres://u:{HIDDEN}/x@host/x",
        f"postgres://u:p@host:{HIDDEN}/x",
        f"postgres://u:p@host:99999/{HIDDEN}",
        f"postgres://u:p@ho st{HIDDEN}/x",
        f"postgres://u:{HIDDEN}@host:5432",
        f"postgres://u:{HIDDEN}@/x",
        f"postgres://u:{HIDDEN}@a..b/x",
        f"postgres://u:{HIDDEN}@{'a' * 80}/x",
        f"postgres://u:{HIDDEN}@host/x?{HIDDEN}=1",
        f"postgresql+psycopg://u:{HIDDEN}@host/x",
        f"mysql://u:{HIDDEN}@host/x",
        f"jdbc:postgresql://host/x?password={HIDDEN}",
        f"host=h dbname=x password='{HIDDEN}",
        f"host=h dbname=x {HIDDEN}",
        f"{HIDDEN}",
        f"postgres://u:{HIDDEN}\0@host/x",
        f"postgres://u:{HIDDEN}\ud800@host/x",
        f"postgres://u:{HIDDEN}@host/x?service=prod",
        f"postgres://u:p@host/x?sslpassword={HIDDEN}",
        "",
    ],
)
def test_a_url_that_is_wrong(url: str) -> None:
    """It is refused with a cure, where it stands is named, and nothing of it is shown, in no chained exception either."""
    with pytest.raises(Refused, match=r"^databases\.hotel\.source\.url ") as refusal:
        parse(url, field="databases.hotel.source.url")

    assert HIDDEN not in "".join(traceback.format_exception(refusal.value)) + refusal.value.cure
    assert refusal.value.__context__ is None
    assert refusal.value.cure


def test_a_parameter_of_another_library() -> None:
    """Those that libpq refuses are named, since nothing else would help."""
    with pytest.raises(Refused) as refusal:
        parse("postgres://u:p@host/x?schema=public&pgbouncer=true", field="url")

    assert "remove pgbouncer, schema, which libpq does not know" == refusal.value.cure


def test_a_pooled_host() -> None:
    """It can't hold a snapshot; the direct host is named."""
    with pytest.raises(Refused, match=r"pooled host ep-x-1-pooler\.eu-central-1\.aws\.neon\.tech") as refusal:
        parse("postgres://u:p@ep-x-1-pooler.eu-central-1.aws.neon.tech/x", field="url")

    assert "use the direct host ep-x-1.eu-central-1.aws.neon.tech" == refusal.value.cure


def test_what_a_child_is_told() -> None:
    """All parameters are kept but the password, which goes by environment; ours are added, and options are merged."""
    conninfo = parse(
        "postgres://u:s3cret@h/x?sslmode=verify-full&sslrootcert=/ca.pem&options=-c%20a.b%3D1&connect_timeout=3", field="url"
    )

    address = conninfo.for_child("reconciler/1", {"statement_timeout": "0"})

    told = dict(part.split("=", 1) for part in address.conninfo.replace("'-c a.b=1 -c statement_timeout=0'", "X").split())
    assert {"sslmode": "verify-full", "sslrootcert": "/ca.pem", "connect_timeout": "3", "options": "X"}.items() <= told.items()
    assert "reconciler/1" == told["application_name"]
    assert "s3cret" not in address.conninfo
    assert "s3cret" == address.environment["PGPASSWORD"]
    assert {"PGPASSWORD"} == {name for name in address.environment if name.startswith("PG")}


def test_no_password_at_all() -> None:
    """Then none is invented: `.pgpass` and certificates go on working."""
    address = parse("postgres://u@h/x", field="url").for_child("a", {})

    assert "PGPASSWORD" not in address.environment


def test_an_address_does_not_print_its_password() -> None:
    """Neither by `repr` nor in text that passes `redact`, raw or percent-encoded."""
    conninfo = parse("postgres://u:p%40ss@h/x", field="url")

    assert "Conninfo(postgres h/x)" == repr(conninfo)
    assert "a *** b *** c" == conninfo.redact("a p@ss b p%40ss c")


def test_one_of_several_hosts() -> None:
    """Narrowed to the server that a session reached, pg_dump can't meet another one."""
    conninfo = parse("host=a,b hostaddr=1.1.1.1,2.2.2.2 port=1,2 dbname=x load_balance_hosts=random", field="url")

    pinned = conninfo.pinned(host="b", hostaddr="2.2.2.2", port=2)

    assert "postgres b:2/x" == pinned.place
    assert "load_balance_hosts" not in pinned.for_session("a")
    assert "2.2.2.2" == pinned.for_session("a")["hostaddr"]
