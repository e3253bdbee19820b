"""Reading a backup back: from the first copy that holds."""

from pathlib import Path

import pytest

from reconciler.backups.fetch import archive, from_first_good, places_of, read_globals, read_manifest
from reconciler.backups.layout import object_key
from reconciler.duties.copies import CopyBackup
from reconciler.errors import Absent, Corrupt, ReconcilerError, Refused
from reconciler.world.facts import Backup
from reconciler.world.ports import Target, World
from tests.backups.faking import ROWS, MovedClock, catalogue, make_world, take
from tests.building import policy


class Fetching:
    """One backup on two targets, and what came of fetching it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.world: World = make_world(folder, MovedClock())
        self.id = take(self.world)
        copy = CopyBackup(database="hotel", backup=self.id, origin="primary", target="offsite")
        copy.perform(self.world, policy(targets=("primary", "offsite")))
        self.got = b""
        self.told: list[str] = []

    def fetch(self) -> str:
        def use(target: Target) -> None:
            self.got = b"".join(
                archive(target, read_manifest(target, "hotel", self.id, self.world.signatures), self.world.identities)
            )

        def tell(name: str, error: ReconcilerError) -> None:
            self.told.append(f"{name}: {type(error).__name__}")

        return from_first_good(self.world.targets, ("primary", "offsite"), use, tell)

    def spoil(self, target: str, name: str = "dump.zst") -> None:
        path = self.folder / target / object_key("hotel", self.id, name)
        path.write_bytes(path.read_bytes()[:-1] + b"!")

    def backup(self) -> Backup:
        found = {name: copy for name in self.world.targets for copy in catalogue(self.world, name).copies}
        return Backup(id=self.id, copies=found)


@pytest.fixture
def fetching(tmp_path: Path) -> Fetching:
    return Fetching(tmp_path)


def test_the_first_copy_holds(fetching: Fetching) -> None:
    """Then no other is asked."""
    assert "primary" == fetching.fetch()
    assert (b"".join(ROWS), []) == (fetching.got, fetching.told)


@pytest.mark.parametrize("name", ["dump.zst", "manifest.json"])
def test_a_damaged_copy_is_told_of_and_the_next_one_taken(fetching: Fetching, name: str) -> None:
    """One byte at its end is enough."""
    fetching.spoil("primary", name)

    assert "offsite" == fetching.fetch()
    assert (b"".join(ROWS), ["primary: Corrupt"]) == (fetching.got, fetching.told)


def test_a_copy_that_is_gone(fetching: Fetching) -> None:
    """Is told of as such."""
    fetching.world.targets["primary"].delete(object_key("hotel", fetching.id, "manifest.json"))

    assert "offsite" == fetching.fetch()
    assert ["primary: Absent"] == fetching.told


def test_something_was_left_behind(fetching: Fetching) -> None:
    """Another copy would only stumble over it, and what was wrong would not be said last."""

    def use(_target: Target) -> None:
        error = Corrupt("half of it is there")
        error.left_a_part = True
        raise error

    with pytest.raises(Corrupt, match="half of it is there"):
        from_first_good(fetching.world.targets, ("primary", "offsite"), use, lambda name, _: fetching.told.append(name))
    assert [] == fetching.told


def test_no_copy_holds(fetching: Fetching) -> None:
    """The last failure goes through, both were told of."""
    fetching.spoil("primary")
    fetching.world.targets["offsite"].delete(object_key("hotel", fetching.id, "dump.zst"))

    with pytest.raises(Absent):
        fetching.fetch()
    assert ["primary: Corrupt", "offsite: Absent"] == fetching.told


def test_roles_come_back_as_data(fetching: Fetching) -> None:
    """Checked like the rest."""
    target = fetching.world.targets["primary"]
    manifest = read_manifest(target, "hotel", fetching.id, fetching.world.signatures)

    assert ["reception"] == [role.name for role in read_globals(target, manifest, fetching.world.identities).roles]
    fetching.spoil("primary", "globals.json.zst")
    with pytest.raises(Corrupt):
        read_globals(target, manifest, fetching.world.identities)


def test_a_manifest_of_another_database(fetching: Fetching) -> None:
    """Copied from one prefix to the other, it is refused: its objects would be looked for elsewhere."""
    target = fetching.world.targets["primary"]
    text = b"".join(target.read(object_key("hotel", fetching.id, "manifest.json")))
    target.write(object_key("reservas", fetching.id, "manifest.json"), [text])

    with pytest.raises(Corrupt, match="is of database hotel"):
        read_manifest(target, "reservas", fetching.id, fetching.world.signatures)


def test_places_in_the_order_of_preference(fetching: Fetching) -> None:
    """Whole copies only, the preferred ones first, the others after them; or just the one that was asked for."""
    assert ("offsite", "primary") == places_of(fetching.backup(), ("offsite", "elsewhere"), None)
    assert ("primary",) == places_of(fetching.backup(), ("offsite",), "primary")

    fetching.world.targets["offsite"].delete(object_key("hotel", fetching.id, "dump.zst"))
    assert ("primary",) == places_of(fetching.backup(), ("offsite",), None)
    with pytest.raises(Refused, match="has no whole copy on offsite: it is damaged on offsite, whole on primary"):
        places_of(fetching.backup(), (), "offsite")
