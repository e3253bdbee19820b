"""age as a stream: what goes in comes out for who has a key, and for nobody else."""

import secrets
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from threading import enumerate as threads

import msgspec
import pytest

from reconciler.backups import layout
from reconciler.backups.encryption import AHEAD_BYTES, decrypt, encrypt, new_pair
from reconciler.backups.fetch import archive, read_globals, read_manifest
from reconciler.duties.adopting import AdoptBackup
from reconciler.duties.copies import CopyBackup
from reconciler.duties.dumps import TakeDump
from reconciler.errors import Corrupt, NoKey, Refused
from reconciler.policy.model import Age
from reconciler.policy.recipient import Recipient
from reconciler.policy.secret import Revealed
from reconciler.world.ports import World
from tests.backups.faking import ROWS, MovedClock, catalogue, files, make_world, manifest_of, states
from tests.building import HOTEL, policy

SECRET, PUBLIC = new_pair()
OTHER_SECRET, OTHER_PUBLIC = new_pair()
KEY = (Revealed(SECRET),)
MIB = 1 << 20


def encrypted(data: bytes, cut: int = MIB, to: tuple[str, ...] = (PUBLIC,)) -> bytes:
    return b"".join(encrypt((data[start : start + cut] for start in range(0, len(data), cut)), to))


class TestTheStream:
    @pytest.mark.parametrize("size", [0, 1, 65_535, 65_536, 65_537, AHEAD_BYTES * 2 + 17])
    @pytest.mark.parametrize("cut", [1000, MIB])
    def test_every_byte_returns(self, size: int, cut: int) -> None:
        """Nothing, one byte, around age's own pieces, and more than may wait at a time."""
        data = secrets.token_bytes(size)

        stored = encrypted(data, cut)

        assert data[:100] not in stored or not size > 1
        pieces = (stored[start : start + cut] for start in range(0, len(stored), cut))
        assert data == b"".join(decrypt(pieces, KEY, "it"))

    def test_any_of_the_recipients_reads_it(self) -> None:
        """And a key file may hold keys that do not fit, comments and empty lines."""
        stored = encrypted(b"hotel", to=(OTHER_PUBLIC, PUBLIC))
        many = (Revealed(f"# public key: {PUBLIC}\n\n{new_pair()[0]}\n{OTHER_SECRET}\n"),)

        assert b"hotel" == b"".join(decrypt([stored], KEY, "it"))
        assert b"hotel" == b"".join(decrypt([stored], many, "it"))

    @pytest.mark.skipif(shutil.which("ssh-keygen") is None, reason="ssh-keygen is not on this machine")
    @pytest.mark.parametrize("kind", ["ed25519", "rsa"])
    def test_keys_of_ssh(self, tmp_path: Path, kind: str) -> None:
        """The .pub file's line encrypts, the file beside it decrypts."""
        subprocess.run(["ssh-keygen", "-q", "-t", kind, "-N", "", "-f", tmp_path / "key"], check=True)  # noqa: S607
        public = Recipient.parse((tmp_path / "key.pub").read_text().strip())

        stored = encrypted(b"hotel", to=(public,))

        assert b"hotel" == b"".join(decrypt([stored], (Revealed((tmp_path / "key").read_text()),), "it"))

    @pytest.mark.skipif(shutil.which("ssh-keygen") is None, reason="ssh-keygen is not on this machine")
    def test_a_key_of_ssh_with_a_passphrase(self, tmp_path: Path) -> None:
        """Nobody is there to type it."""
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "pass", "-f", tmp_path / "key"], check=True)  # noqa: S607
        with pytest.raises(Refused, match="the SSH private key has a passphrase"):
            list(decrypt([encrypted(b"x")], (Revealed((tmp_path / "key").read_text()),), "it"))

    def test_none_of_the_keys_fits(self) -> None:
        """That is no damage: whoever has the key may find it whole."""
        with pytest.raises(NoKey, match="it is encrypted to none of the keys at hand"):
            list(decrypt([encrypted(b"hotel")], (Revealed(OTHER_SECRET),), "it"))

    def test_no_key_at_all(self) -> None:
        """Said before a byte is read."""
        with pytest.raises(NoKey, match="the policy names no key"):
            decrypt(iter([]), (), "it")

    def test_what_is_no_key_is_not_echoed(self) -> None:
        """A line of the file by its number."""
        with pytest.raises(Refused) as caught:
            list(decrypt([encrypted(b"x")], (Revealed("# mine\nAGE-SECRET-KEY-1HUNTER2\n"),), "it"))

        assert "line 2 is no identity of age" in str(caught.value)
        assert "HUNTER2" not in str(caught.value) + caught.value.cure

    @pytest.mark.parametrize("size", [10, 65_536 * 3])
    @pytest.mark.parametrize("where", ["header", "body", "end"])
    def test_one_byte_changed(self, size: int, where: str) -> None:
        """Anywhere: nothing that was changed comes out."""
        data = secrets.token_bytes(size)
        stored = bytearray(encrypted(data))
        place = {"header": 3, "body": len(stored) - size // 2, "end": len(stored) - 1}[where]
        stored[place] ^= 1
        out: list[bytes] = []

        with pytest.raises(Corrupt, match="not what age wrote"):
            out.extend(decrypt([bytes(stored)], KEY, "it"))
        assert data.startswith(b"".join(out))

    @pytest.mark.parametrize("lost", [1, 16, 65_552, 65_552 * 2])
    def test_an_end_in_the_middle(self, lost: int) -> None:
        """Even just between two of age's pieces."""
        stored = encrypted(secrets.token_bytes(65_536 * 3))
        with pytest.raises(Corrupt, match="not what age wrote"):
            list(decrypt([stored[:-lost]], KEY, "it"))

    def test_what_the_producer_raises_goes_through(self) -> None:
        """And no thread stays behind."""

        def dying() -> Iterator[bytes]:
            yield secrets.token_bytes(3 * MIB)
            raise OSError("the producer's own")

        before = set(threads())
        with pytest.raises(OSError, match="the producer's own"):
            list(encrypt(dying(), [PUBLIC]))
        assert set() == set(threads()) - before

    def test_a_reader_that_leaves_early(self) -> None:
        """Neither side waits for the other for ever."""
        before = set(threads())
        stream = iter(encrypt((secrets.token_bytes(MIB) for _ in range(1000)), [PUBLIC]))
        next(stream)
        stream.close()  # type: ignore[attr-defined]  # it is a generator

        assert set() == set(threads()) - before

    def test_memory_is_bounded(self) -> None:
        """What waits for the thread, and what came out, stay within a few chunks."""
        made = taken = ahead = 0

        def chunks() -> Iterator[bytes]:
            nonlocal made
            for _ in range(64):
                made += MIB
                yield bytes(MIB)

        for piece in encrypt(chunks(), [PUBLIC]):
            taken += len(piece)
            ahead = max(ahead, made - taken)
        assert ahead <= AHEAD_BYTES + 3 * MIB


class Sealed:
    """A world whose backups are encrypted, with the key at hand or without."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.blind = make_world(folder, MovedClock())
        self.world: World = msgspec.structs.replace(self.blind, identities=lambda: KEY)
        self.want = policy(targets=("primary", "offsite"), encryption=Age(age_recipients=(Recipient(PUBLIC),)))

    def take(self) -> str:
        TakeDump(database="hotel", target="primary", slot=None, repository=None, identity=HOTEL).perform(self.blind, self.want)
        (backup,) = states(self.blind)
        return backup

    def read(self, world: World, backup: str, target: str = "primary") -> bytes:
        place = world.targets[target]
        return b"".join(archive(place, read_manifest(place, "hotel", backup, world.signatures), world.identities))


@pytest.fixture
def sealed(tmp_path: Path) -> Sealed:
    return Sealed(tmp_path)


class TestABackup:
    def test_no_byte_of_it_lies_in_clear_text(self, sealed: Sealed) -> None:
        """Neither rows nor roles; the manifest says to whom it is encrypted and how to read it by hand."""
        backup = sealed.take()
        names = {name.rpartition("/")[2] for name in files(sealed.folder)}
        manifest = manifest_of(sealed.world, backup)

        assert {"dump.zst.age", "globals.json.zst.age"} < names
        assert not {"dump.zst", "globals.json.zst"} & names
        assert (PUBLIC,) == manifest.recipients
        assert manifest.restore_by_hand.startswith("age -d -i KEY_FILE dump.zst.age | zstd -d -c | pg_restore")

    def test_it_is_read_back_with_the_key(self, sealed: Sealed) -> None:
        """Taking it needed none."""
        backup = sealed.take()
        manifest = manifest_of(sealed.world, backup)

        assert b"".join(ROWS) == sealed.read(sealed.world, backup)
        roles = read_globals(sealed.world.targets["primary"], manifest, sealed.world.identities).roles
        assert ["reception"] == [role.name for role in roles]

    def test_it_is_not_read_back_without(self, sealed: Sealed) -> None:
        """A kind of its own, told apart from damage."""
        backup = sealed.take()
        with pytest.raises(NoKey):
            sealed.read(sealed.blind, backup)

    def test_copying_needs_no_key(self, sealed: Sealed) -> None:
        """Byte for byte the same."""
        backup = sealed.take()
        CopyBackup(database="hotel", backup=backup, origin="primary", target="offsite").perform(sealed.blind, sealed.want)
        key = layout.object_key("hotel", backup, "dump.zst.age")

        assert (sealed.folder / "primary" / key).read_bytes() == (sealed.folder / "offsite" / key).read_bytes()
        assert b"".join(ROWS) == sealed.read(sealed.world, backup, "offsite")

    def test_an_orphan_is_not_adopted_without_the_key(self, sealed: Sealed) -> None:
        """It stays what it is: nobody knows whether it is whole."""
        backup = sealed.take()
        (sealed.folder / "primary" / layout.object_key("hotel", backup, layout.MANIFEST)).unlink()

        with pytest.raises(NoKey):
            AdoptBackup(database="hotel", backup=backup, target="primary").perform(sealed.blind, sealed.want)
        assert "orphan" == catalogue(sealed.world).copies[0].state
