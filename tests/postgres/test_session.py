"""Sessions of ours, as the server sees them."""

from reconciler.postgres.session import apply_settings, session, unlimited
from reconciler.postgres.url import parse
from tests.servers.postgres import Server


def test_settings_take_one_query(postgres: Server) -> None:
    """All of them are set, and the last query that the server saw names each: it may be far away."""
    settings = unlimited(postgres.major) | {"application_name": "it's 100 % ours"}
    with session(parse(postgres.url("postgres"), field="url"), "before") as connection:
        apply_settings(connection, settings)
        seen = f"SELECT query FROM pg_stat_activity WHERE pid = {connection.info.backend_pid}"
        ((query,),) = postgres.execute(seen)

        assert settings == {name: connection.execute(f"SHOW {name}").fetchall()[0][0] for name in settings}
        assert [] == [name for name in settings if name not in query]
