"""Which client is chosen."""

from pathlib import Path

import pytest

from reconciler.errors import Refused
from reconciler.postgres import client
from reconciler.postgres.client import Client
from tests.servers.postgres import BINARIES, MAJORS


def clients(*majors: int) -> list[Client]:
    return [Client(major=major, version=f"{major}.1", folder=Path(f"/opt/{major}")) for major in majors]


@pytest.mark.parametrize(
    ("found", "server", "expected"), [((18, 15, 16), 15, 15), ((18, 17), 15, 17), ((14, 16, 18), 16, 16), ((18,), 18, 18)]
)
def test_the_client_for_a_dump(found: tuple[int, ...], server: int, expected: int) -> None:
    """The server's own major where it is at hand, else the oldest newer one, never an older one."""
    assert expected == client.for_dump(clients(*found), server).major


@pytest.mark.parametrize(
    ("found", "archive", "server", "expected"),
    [((15, 16, 18), 16, 18, 18), ((15, 16, 18), 16, 15, 16), ((16, 17, 18), 15, 15, 16)],
)
def test_the_client_for_a_restore(found: tuple[int, ...], archive: int, server: int, expected: int) -> None:
    """The server's own major if it reads the archive, else the oldest that does."""
    assert expected == client.for_restore(clients(*found), archive=archive, server=server).major


def test_no_client_fits() -> None:
    """One sentence says what was found and what to install."""
    with pytest.raises(Refused, match=r"found was 14\.1 in /opt/14; 16\.1 in /opt/16") as refusal:
        client.for_dump(clients(14, 16), 17)

    assert "postgresql-client-17" in refusal.value.cure


def test_no_client_at_all(tmp_path: Path) -> None:
    """An explicit folder without programs is not made up for by others."""
    assert () == client.find("pg_dump", tmp_path)


def test_nowhere_to_look(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An empty PATH on a machine without PostgreSQL: none is found, and whoever needs one says so."""
    monkeypatch.setenv("PATH", "")
    monkeypatch.setattr(client, "DEBIAN", tmp_path)
    monkeypatch.setattr(client, "WHEELS", ())

    assert () == client.find("pg_dump")


@pytest.mark.parametrize("major", MAJORS)
def test_clients_are_found_on_this_machine(major: int) -> None:
    """Those of wheels and of Debian, each with its true version."""
    assert major in {found.major for found in client.find("pg_dump")}


def test_a_wrapper_in_the_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Debian's wrapper is passed over: what it would run depends on other things than ours."""
    wrapper = tmp_path / "pg_wrapper"
    wrapper.write_text("#!/bin/sh\necho 'pg_dump (PostgreSQL) 99.1'\n")
    wrapper.chmod(0o755)
    (tmp_path / "pg_dump").symlink_to(wrapper)
    monkeypatch.setenv("PATH", str(tmp_path))

    assert 99 not in {found.major for found in client.find("pg_dump")}


def test_the_path_comes_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of two clients of one major, that of the PATH is taken."""
    (tmp_path / "pg_dump").symlink_to(BINARIES[18] / "pg_dump")
    monkeypatch.setenv("PATH", str(tmp_path))

    assert tmp_path == client.for_dump(client.find("pg_dump"), 18).folder


@pytest.mark.parametrize(
    "program", ["#!/bin/sh\nexit 1\n", "#!/bin/sh\necho hello\n", "#!/no/such/interpreter\n", "\x7fELF broken"]
)
def test_a_program_that_does_not_run(tmp_path: Path, program: str) -> None:
    """It counts as not there."""
    (tmp_path / "pg_dump").write_text(program)
    (tmp_path / "pg_dump").chmod(0o755)

    assert () == client.find("pg_dump", tmp_path)


def test_each_program_is_asked_once(tmp_path: Path) -> None:
    """Until another one lies in its place: one that was upgraded meanwhile tells its own version."""
    program, asked = tmp_path / "pg_dump", tmp_path / "asked"

    def install(version: str) -> None:
        fresh = tmp_path / "fresh"
        fresh.write_text(f"#!/bin/sh\necho {version} >> {asked}\necho 'pg_dump (PostgreSQL) {version}'\n")
        fresh.chmod(0o755)
        fresh.replace(program)

    install("18.1")
    versions = [client.find("pg_dump", tmp_path)[0].version for _ in range(3)]
    install("18.2")
    versions += [client.find("pg_dump", tmp_path)[0].version for _ in range(3)]

    assert ["18.1"] * 3 + ["18.2"] * 3 == versions
    assert ["18.1", "18.2"] == asked.read_text().split()


@pytest.mark.parametrize("major", [13, 19])
def test_a_server_that_is_not_supported(major: int) -> None:
    """It is refused by name."""
    with pytest.raises(Refused, match=f"x is PostgreSQL {major}; supported are 14 to 18"):
        client.check_supported(major, "x")


def test_a_version_that_is_none() -> None:
    """A manifest that was tampered with does not choose a client."""
    with pytest.raises(Refused, match="is no version"):
        client.major_of("latest")
