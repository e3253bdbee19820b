"""Who vouches for a manifest (manifest.sig, over its bytes just as they lie there), and for a tombstone. Ed25519."""

from base64 import b64decode, b64encode
from functools import lru_cache
from typing import TYPE_CHECKING, Literal

import msgspec

from reconciler.backups.manifest import SMALL_BYTES, Manifest, decode_again, encode
from reconciler.errors import Corrupt, Refused
from reconciler.policy.public_key import PREFIX
from reconciler.policy.secret import Revealed
from reconciler.world.ports import Signatures

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

CURE = "reconcile keys new --signing makes a pair: name the private part as signatures.signing_key, pin the public one"


class Signature(msgspec.Struct, frozen=True, kw_only=True):
    """As it is written down."""

    format: Literal[1]
    algorithm: Literal["ed25519"]
    public_key: str
    """As the policy pins it."""
    signature: str
    """64 bytes in base64."""


class Signed(msgspec.Struct, frozen=True, kw_only=True):
    """A manifest as it lies on a target."""

    manifest: Manifest
    text: bytes
    signature: bytes | None
    """The file beside it, where there is one."""


def new_pair() -> tuple[str, str]:
    """A fresh private key (PEM, PKCS 8), and the public key that belongs to it."""
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

    key = Ed25519PrivateKey.generate()
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode(), _public(key)


def signing_key(signatures: Signatures) -> Revealed | None:
    """What new backups and tombstones are signed with; None where nobody asks for it. To be asked for before any work is done.

    Raises Refused where one that is written now would be trusted by nobody.
    """
    key = signatures.signing_key()
    if key is None:
        if signatures.public_keys:
            what = "backups and tombstones must be signed by a key that the policy pins, and it names no signing key"
            raise Refused(what, cure=CURE)
        return None
    public = _public(_private(key))
    if public not in signatures.public_keys:
        raise Refused(
            "the signing key is none of those that the policy pins: what it signs would be foreign",
            cure=f"pin its public half, {public}, or name the private part of one that is pinned as signatures.signing_key",
        )
    return key


def sign(manifest: bytes, key: Revealed) -> bytes:
    """The file's content. Raises Refused for what is no private key."""
    return encode(signature_of(manifest, key))


def signature_of(content: bytes, key: Revealed) -> Signature:
    """Of any bytes. Raises Refused for what is no private key."""
    private = _private(key)
    signature = b64encode(private.sign(content)).decode()
    return Signature(format=1, algorithm="ed25519", public_key=_public(private), signature=signature)


def check_signature(manifest: bytes, signature: bytes | None, signatures: Signatures, what: str) -> None:
    """Where keys are pinned, one of them must have signed just these bytes. `what` names the manifest. Raises Corrupt."""
    if not signatures.public_keys:
        return
    if signature is None:
        raise Corrupt(f"{what} is not signed", cure="if it was taken before keys were pinned, `reconcile backups sign ID`")
    check(manifest, decode_again(signature, Signature, f"the signature of {what}"), signatures, what)


def check(content: bytes, found: Signature | None, signatures: Signatures, what: str) -> None:
    """The same of any bytes that have a signature within reach. Raises Corrupt."""
    if not signatures.public_keys:
        return
    if found is None:
        raise Corrupt(f"{what} is not signed")
    if found.public_key not in signatures.public_keys:
        raise Corrupt(f"{what} is signed by {found.public_key}, a key that the policy does not pin")
    if not _holds(content, found):
        raise Corrupt(f"{what} is not what was signed")


def _holds(content: bytes, found: Signature) -> bool:
    # What is remembered stays in memory with its bytes.
    is_small = len(content) + len(found.signature) <= SMALL_BYTES
    return (_verified if is_small else _verified.__wrapped__)(content, found)


@lru_cache(maxsize=1024)
def _verified(content: bytes, found: Signature) -> bool:
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

    try:
        public = Ed25519PublicKey.from_public_bytes(b64decode(found.public_key.removeprefix(PREFIX), validate=True))
        public.verify(b64decode(found.signature, validate=True), content)
    except (InvalidSignature, ValueError):
        return False
    return True


def _private(key: Revealed) -> "Ed25519PrivateKey":
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    try:
        found = load_pem_private_key(key.expose().encode(), password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        found = None
    # Out of the handler, since that error may quote what it read.
    if not isinstance(found, Ed25519PrivateKey):
        raise Refused("signatures.signing_key is no private key of Ed25519 (PEM, PKCS 8, without a passphrase)", cure=CURE)
    return found


def _public(key: "Ed25519PrivateKey") -> str:
    return PREFIX + b64encode(key.public_key().public_bytes_raw()).decode()
