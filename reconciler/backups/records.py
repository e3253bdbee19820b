"""The record of whose catalogue this is; and reading any small object whole."""

from reconciler.backups.manifest import LARGEST, decode_again
from reconciler.errors import Corrupt
from reconciler.world.facts import Repository
from reconciler.world.ports import Stored, Target


def read_whole(target: Target, key: str) -> tuple[bytes, Stored]:
    """A small object. Raises Absent, or Corrupt when it is larger than any record of ours."""
    with target.read(key) as blob:
        chunks, total = [], 0
        for chunk in blob:
            total += len(chunk)
            if total > LARGEST:
                raise Corrupt(f"{target.name}: {key} is larger than any record of ours")
            chunks.append(chunk)
        return b"".join(chunks), blob.stored


def read_repository(target: Target, key: str) -> Repository:
    """Raises Corrupt for what is no such record."""
    text, _ = read_whole(target, key)
    try:
        return decode_again(text, Repository, f"{target.name}: {key}")
    except Corrupt as torn:
        cure = "copy it from another target of this database, or remove it: manifests tell whose they are, and it is written anew"
        raise Corrupt(torn.what, cure=cure) from torn
