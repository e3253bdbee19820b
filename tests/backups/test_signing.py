"""Signatures: where keys are pinned, a manifest counts if one of them signed just its bytes, and else for nothing."""

import subprocess
from pathlib import Path

import msgspec
import pytest

from reconciler.backups import layout
from reconciler.backups.fetch import read_manifest
from reconciler.backups.manifest import SMALL_BYTES
from reconciler.backups.signing import Signature, _verified, check_signature, new_pair, sign
from reconciler.duties.copies import CopyBackup
from reconciler.duties.dumps import TakeDump
from reconciler.duties.retention import PruneBackup
from reconciler.duties.vouching import SignBackup
from reconciler.errors import Conflict, Corrupt, Refused
from reconciler.policy.secret import Revealed
from reconciler.world.events import Effect, Event
from reconciler.world.facts import Copy
from reconciler.world.ports import Signatures, World
from tests.backups.faking import MovedClock, catalogue, content, make_world, states, take
from tests.building import HOTEL, policy

KEY, PUBLIC = new_pair()
OTHER_KEY, OTHER_PUBLIC = new_pair()


def signatures(key: str | None = KEY, *public: str) -> Signatures:
    return Signatures(public_keys=public or (PUBLIC,), signing_key=lambda: Revealed(key) if key else None)


def trusting(world: World, key: str | None = KEY, *public: str) -> World:
    return msgspec.structs.replace(world, signatures=signatures(key, *public))


def the_copy(world: World, target: str = "primary") -> Copy:
    (copy,) = catalogue(world, target).copies
    return copy


class Signing:
    """A world whose backups are signed, and the same one seen by who trusts nobody in particular."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.careless = make_world(folder, MovedClock())
        self.world = trusting(self.careless)
        self.want = policy(targets=("primary", "offsite"))

    def path(self, backup: str, name: str, target: str = "primary") -> Path:
        return self.folder / target / layout.object_key("hotel", backup, name)


@pytest.fixture
def signing(tmp_path: Path) -> Signing:
    return Signing(tmp_path)


class TestTheSignature:
    def test_of_just_these_bytes(self) -> None:
        """One bit of difference is another manifest."""
        signature = sign(b"manifest", Revealed(KEY))

        check_signature(b"manifest", signature, signatures(), "it")
        with pytest.raises(Corrupt, match="it is not what was signed"):
            check_signature(b"manifesT", signature, signatures(), "it")

    def test_of_another_key(self) -> None:
        """A signature that holds is not enough; one that claims to be of a pinned key does not hold."""
        found = msgspec.json.decode(sign(b"manifest", Revealed(OTHER_KEY)), type=Signature)
        claimed = msgspec.json.encode(msgspec.structs.replace(found, public_key=PUBLIC))

        with pytest.raises(Corrupt, match="a key that the policy does not pin"):
            check_signature(b"manifest", msgspec.json.encode(found), signatures(), "it")
        with pytest.raises(Corrupt, match="is not what was signed"):
            check_signature(b"manifest", claimed, signatures(), "it")

    def test_of_any_of_the_pinned_keys(self) -> None:
        """So that a key can be changed without signing anything again."""
        both = signatures(KEY, PUBLIC, OTHER_PUBLIC)

        for key in (KEY, OTHER_KEY):
            check_signature(b"manifest", sign(b"manifest", Revealed(key)), both, "it")

    def test_of_a_large_manifest(self) -> None:
        """It is checked each time: thousands that are remembered with their bytes would fill the memory."""
        text = b"m" * SMALL_BYTES
        signature = sign(text, Revealed(KEY))
        before = _verified.cache_info().currsize

        check_signature(text, signature, signatures(), "it")
        with pytest.raises(Corrupt, match="it is not what was signed"):
            check_signature(text + b"m", signature, signatures(), "it")
        assert before == _verified.cache_info().currsize

    @pytest.mark.parametrize(
        "torn", [b"", b"{", b"[]", b'{"format": 2}', sign(b"m", Revealed(KEY)).replace(b'"signature": "', b'"signature": "!')]
    )
    def test_that_cannot_be_read(self, torn: bytes) -> None:
        """Whatever lies there, it vouches for nothing."""
        with pytest.raises(Corrupt):
            check_signature(b"m", torn, signatures(), "it")

    def test_by_hand(self, tmp_path: Path) -> None:
        """`openssl` verifies it: it needs nothing of ours."""
        text = b'{"id": "x"}\n'
        found = msgspec.json.decode(sign(text, Revealed(KEY)), type=Signature)
        (tmp_path / "key.pem").write_text(KEY)
        (tmp_path / "manifest.json").write_bytes(text)
        (tmp_path / "sig").write_text(found.signature)
        line = (
            "openssl pkey -in key.pem -pubout -out pub.pem && base64 -d sig > raw && "
            "openssl pkeyutl -verify -pubin -inkey pub.pem -rawin -in manifest.json -sigfile raw"
        )

        ran = subprocess.run(["bash", "-c", line], cwd=tmp_path, capture_output=True, text=True, check=True, timeout=60)  # noqa: S607
        assert "Verified Successfully" in ran.stdout


class TestABackup:
    def test_it_counts_where_its_key_is_pinned(self, signing: Signing) -> None:
        """And where nobody asks for signatures."""
        backup = take(signing.world)

        assert ("whole", "whole") == (the_copy(signing.world).state, the_copy(signing.careless).state)
        assert backup == read_manifest(signing.world.targets["primary"], "hotel", backup, signing.world.signatures).id

    def test_a_copy_carries_the_signature_byte_for_byte(self, signing: Signing) -> None:
        """Whoever copies needs no key, even if no signature is asked for there."""
        backup = take(signing.world)
        CopyBackup(database="hotel", backup=backup, origin="primary", target="offsite").perform(signing.careless, signing.want)

        assert "whole" == the_copy(signing.world, "offsite").state
        for name in (layout.MANIFEST, layout.SIGNATURE):
            assert signing.path(backup, name).read_bytes() == signing.path(backup, name, "offsite").read_bytes()

    @pytest.mark.parametrize("trouble", ["unsigned", "altered", "of another key", "torn"])
    def test_it_is_foreign(self, signing: Signing, trouble: str) -> None:
        """It neither counts nor is read, copied or pruned."""
        world = {"unsigned": signing.careless, "of another key": trusting(signing.careless, OTHER_KEY, OTHER_PUBLIC)}
        backup = take(world.get(trouble, signing.world))
        if trouble == "altered":
            path = signing.path(backup, layout.MANIFEST)
            path.write_bytes(path.read_bytes().replace(b'"scheduled"', b'"manual"'))
        if trouble == "torn":
            signing.path(backup, layout.SIGNATURE).write_bytes(b"{")

        assert "foreign" == the_copy(signing.world).state
        with pytest.raises(Corrupt):
            content(signing.world, backup)
        with pytest.raises(Corrupt):
            CopyBackup(database="hotel", backup=backup, origin="primary", target="offsite").perform(signing.world, signing.want)
        with pytest.raises(Corrupt):
            PruneBackup(database="hotel", backup=backup, targets=("primary",)).perform(signing.world, signing.want)
        assert {} == states(signing.world, "offsite")

    def test_a_tombstone_does_not_make_it_ours(self, signing: Signing) -> None:
        """Else whoever writes to the bucket could have a stranger's data deleted by us."""
        backup = take(signing.careless)
        PruneBackup(database="hotel", backup=backup, targets=("primary",)).perform(signing.careless, signing.want)

        assert "foreign" == the_copy(signing.world).state
        assert "deleted" == the_copy(signing.careless).state

    def test_a_signature_moved_to_another_backup(self, signing: Signing) -> None:
        """It is of the bytes, and the bytes name the backup."""
        first = take(signing.world)
        signing.world.clock.wait(60, signing.world.stop)
        repository = catalogue(signing.world).repository
        assert repository is not None
        second = take(signing.careless, repository=repository.id)
        for name in (layout.MANIFEST, layout.SIGNATURE):
            signing.path(second, name).write_bytes(signing.path(first, name).read_bytes())

        assert {first: "whole", second: "damaged"} == states(signing.world)

    @pytest.mark.parametrize(("key", "says"), [(None, "it names no signing key"), (OTHER_KEY, "is none of those")])
    def test_none_is_taken_that_nobody_would_trust(self, signing: Signing, key: str | None, says: str) -> None:
        """Said before a byte is dumped or written."""
        world = trusting(signing.careless, key)

        with pytest.raises(Refused, match=says):
            TakeDump(database="hotel", target="primary", slot=None, repository=None, identity=HOTEL).perform(world, signing.want)
        assert not (signing.folder / "primary").exists()

    def test_what_is_no_key_is_not_echoed(self, signing: Signing) -> None:
        """It may be another secret in the wrong place."""
        with pytest.raises(Refused) as caught:
            take(trusting(signing.careless, "hunter2"))
        assert "is no private key of Ed25519" in caught.value.what
        assert "hunter2" not in caught.value.what + str(caught.value.__context__)


def test_the_signature_comes_before_the_manifest(tmp_path: Path) -> None:
    """Whoever looks in between sees no backup yet, and never one that nobody vouches for."""
    effects: list[str] = []

    def hear(event: Event) -> None:
        if isinstance(event, Effect):
            effects.append(event.key.rpartition("/")[2])

    world = trusting(make_world(tmp_path, MovedClock(), tell=hear))
    backup = take(world)
    taken, effects[:] = list(effects), []
    CopyBackup(database="hotel", backup=backup, origin="primary", target="offsite").perform(
        world, policy(targets=tuple(world.targets))
    )

    for order in (taken, effects):
        assert order.index("dump.zst") < order.index("manifest.sig") < order.index("manifest.json")


class TestVouching:
    def sign(self, signing: Signing, backup: str) -> None:
        SignBackup(database="hotel", backup=backup, targets=("primary",)).perform(signing.world, signing.want)

    def test_what_was_taken_before_keys_were_pinned(self, signing: Signing) -> None:
        """It counts again once somebody vouched for it by name; its manifest is untouched."""
        backup = take(signing.careless)
        before = signing.path(backup, layout.MANIFEST).read_bytes()
        assert the_copy(signing.world).is_unsigned
        self.sign(signing, backup)

        assert ("whole", False) == (the_copy(signing.world).state, the_copy(signing.world).is_unsigned)
        assert before == signing.path(backup, layout.MANIFEST).read_bytes()

    def test_what_carries_a_signature_already(self, signing: Signing) -> None:
        """Somebody else's is not written over."""
        backup = take(trusting(signing.careless, OTHER_KEY, OTHER_PUBLIC))

        assert not the_copy(signing.world).is_unsigned
        with pytest.raises(Conflict):
            self.sign(signing, backup)
        assert "foreign" == the_copy(signing.world).state

    def test_what_belongs_to_another_repository(self, signing: Signing) -> None:
        """That no signature can mend."""
        backup = take(signing.careless)
        path = signing.path(backup, layout.MANIFEST)
        repository = catalogue(signing.careless).repository
        assert repository is not None
        path.write_bytes(path.read_bytes().replace(repository.id.encode(), b"0" * 16))

        assert not the_copy(signing.world).is_unsigned
        with pytest.raises(Refused, match="belongs to another repository"):
            self.sign(signing, backup)
