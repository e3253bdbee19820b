"""age, both ways, as a stream. Which keys there are is the world's business; what is inside is nobody's here."""

import re
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from functools import partial
from threading import Condition
from typing import Any, Final, Protocol

from reconciler.errors import Corrupt, NoKey, Refused
from reconciler.policy.secret import Revealed
from reconciler.world.pool import ThreadPool

AHEAD_BYTES: Final = 4 * 1024 * 1024
"""How much may wait for the thread that encrypts: enough that it never idles, nothing beside the parts of an upload."""
GATHER_BYTES: Final = 1024 * 1024
"""age writes pieces of 64 KiB; they are handed on in larger ones."""
HEAD_BYTES: Final = 1024 * 1024
"""More than what stands before the data of any age file: a recipient takes some hundreds of bytes there."""

_PEM: Final = re.compile(r"-----BEGIN [A-Z ]*PRIVATE KEY-----.*?-----END [A-Z ]*PRIVATE KEY-----\n?", re.DOTALL)


def encrypt(chunks: Iterable[bytes], recipients: Sequence[str]) -> Iterator[bytes]:
    """To all of them, as one age file, in a thread beside whoever makes the chunks. What the chunks raise goes through."""
    import pyrage

    keys = [_recipient(each) for each in recipients]

    def work(reader: "_Reader", writer: "_Writer") -> None:
        try:
            pyrage.encrypt_io(reader, writer, keys)
        except (pyrage.EncryptError, OSError) as error:
            raise Refused(f"cannot encrypt: {error}") from error

    return _beside(work, chunks)


def decrypt(chunks: Iterable[bytes], identities: Sequence[Revealed], what: str) -> Iterator[bytes]:
    """The other way round; every piece is authentic before it comes out.

    Raises NoKey where none of the identities opens it, Corrupt for what age refuses, an end in the middle too.
    """
    import pyrage

    keys = [key for revealed in identities for key in _identities(revealed.expose())]
    if not keys:
        raise NoKey(f"{what} is encrypted, and the policy names no key", cure="name it as encryption.age_identity")

    def work(reader: "_Reader", writer: "_Writer") -> None:
        try:
            pyrage.decrypt_io(reader, writer, keys)
        except pyrage.DecryptError as error:
            if "No matching keys" in str(error):
                cure = "add the identity of one of its recipients to encryption.age_identity; its manifest names them"
                raise NoKey(f"{what} is encrypted to none of the keys at hand", cure=cure) from error
            raise Corrupt(f"{what}: not what age wrote: {error}") from error
        except OSError as error:
            raise Corrupt(f"{what}: not what age wrote: {error}") from error

    return _beside(work, chunks)


def check_opens(identities: Sequence[Revealed], head: bytes, what: str) -> None:
    """Raises NoKey where none of them opens what begins like that. That it ends, or is damaged further on, is not looked at."""
    with suppress(Corrupt):
        deque(decrypt([head], identities, what), maxlen=0)


def opens(identities: Sequence[Revealed], recipient: str) -> bool:
    """Whether one of them reads what is encrypted to this recipient: tried. Raises Refused for what is no key."""
    probe = b"opened"
    try:
        return b"".join(decrypt(encrypt([probe], [recipient]), identities, "a probe")) == probe
    except NoKey:
        return False


def new_pair() -> tuple[str, str]:
    """A fresh identity, and the recipient that belongs to it."""
    import pyrage

    identity = pyrage.x25519.Identity.generate()
    return str(identity), str(identity.to_public())


def _recipient(text: str) -> Any:
    import pyrage

    kind = pyrage.x25519 if text.startswith("age1") else pyrage.ssh
    try:
        return kind.Recipient.from_str(text)
    except pyrage.RecipientError as error:
        raise Refused(
            f"{text[:100]} is no recipient of age: {error}", cure="look into the manifest or policy that has it"
        ) from error


def _identities(text: str) -> Iterator[Any]:
    """As age's own key files have them: one a line, comments between; or private keys of SSH. Never echoed."""
    import pyrage

    for block in _PEM.findall(text):
        try:
            yield pyrage.ssh.Identity.from_buffer(block.encode())
        except pyrage.IdentityError as error:
            why = "has a passphrase" if "decrypted first" in str(error) else "can't be read"
            cure = "name a key without one, ssh-ed25519 or ssh-rsa, in a file that only this user may read"
            raise Refused(f"encryption.age_identity: the SSH private key {why}", cure=cure) from None
    for number, line in enumerate(_PEM.sub("", text).splitlines(), start=1):
        if not line.strip() or line.startswith("#"):
            continue
        try:
            yield pyrage.x25519.Identity.from_str(line.strip())
        except pyrage.IdentityError:
            what = f"encryption.age_identity: line {number} is no identity of age"
            raise Refused(
                what, cure="it holds lines that begin with AGE-SECRET-KEY-1, as `reconcile keys new --age` makes"
            ) from None


class _Reader(Protocol):
    def read(self, size: int, /) -> bytes: ...


class _Writer(Protocol):
    def write(self, data: bytes, /) -> int: ...
    def flush(self) -> None: ...


def _beside(work: Callable[[_Reader, _Writer], None], chunks: Iterable[bytes]) -> Iterator[bytes]:
    """What `work` writes while it reads the chunks. It runs in a thread; the chunks are made by whoever asks for the output.

    So nobody ever has to stop a thread that waits for a slow program: the thread waits for us alone.
    """
    between = _Between()
    result = ThreadPool(1).submit(partial(between.run, work))
    try:
        for chunk in chunks:
            if out := between.feed(chunk):
                yield out
            if between.is_done:
                break
        yield from between.rest()
    finally:
        between.end()
        # What the thread raised, but not over an exception of the chunks'.
        failure = result.exception()
    if failure is not None:
        raise failure


class _Between:
    """What waits before the thread, and what has come out of it. Bounded, since nothing comes out that did not go in."""

    def __init__(self) -> None:
        self._changed = Condition()
        self._waiting: deque[bytes] = deque()
        self._waiting_bytes = 0
        self._out: list[bytes] = []
        self._all_fed = False
        self.is_done = False

    def feed(self, chunk: bytes) -> bytes:
        """Hand one on, and take what has come out meanwhile, often nothing."""
        with self._changed:
            self._changed.wait_for(lambda: self._waiting_bytes < AHEAD_BYTES or self.is_done)
            if chunk:
                self._waiting.append(chunk)
                self._waiting_bytes += len(chunk)
                self._changed.notify_all()
            return self._taken()

    def rest(self) -> Iterator[bytes]:
        """All that is still to come, once everything was fed."""
        self.end()
        done = False
        while not done:
            with self._changed:
                self._changed.wait_for(lambda: bool(self._out) or self.is_done)
                done = self.is_done
                out = self._taken()
            if out:
                yield out

    def end(self) -> None:
        """Nothing more is fed."""
        with self._changed:
            self._all_fed = True
            self._changed.notify_all()

    def run(self, work: Callable[[_Reader, _Writer], None]) -> None:
        """The thread."""
        writer = _Gathering(self._give)
        try:
            work(_Cutting(self._take), writer)
            writer.hand_on()
        finally:
            with self._changed:
                self.is_done = True
                self._changed.notify_all()

    def _taken(self) -> bytes:
        out, self._out = b"".join(self._out), []
        return out

    def _take(self) -> bytes:
        with self._changed:
            self._changed.wait_for(lambda: bool(self._waiting) or self._all_fed)
            if not self._waiting:
                return b""
            chunk = self._waiting.popleft()
            self._waiting_bytes -= len(chunk)
            self._changed.notify_all()
            return chunk

    def _give(self, data: bytes) -> None:
        with self._changed:
            self._out.append(data)
            self._changed.notify_all()


class _Cutting:
    """A reader that asks for a lock once a chunk, not once for each of the small pieces that age reads."""

    def __init__(self, take: Callable[[], bytes]) -> None:
        self._next = take
        self._rest = memoryview(b"")

    def read(self, size: int, /) -> bytes:
        if not self._rest:
            self._rest = memoryview(self._next())
        piece, self._rest = self._rest[:size], self._rest[size:]
        return bytes(piece)


class _Gathering:
    """A writer that hands on large pieces."""

    def __init__(self, give: Callable[[bytes], None]) -> None:
        self._give = give
        self._pieces: list[bytes] = []
        self._size = 0

    def write(self, data: bytes, /) -> int:
        self._pieces.append(bytes(data))
        self._size += len(data)
        if self._size >= GATHER_BYTES:
            self.hand_on()
        return len(data)

    def flush(self) -> None:
        """Only the end is worth handing on less."""

    def hand_on(self) -> None:
        if self._pieces:
            self._give(b"".join(self._pieces))
        self._pieces, self._size = [], 0
