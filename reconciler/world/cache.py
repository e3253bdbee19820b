"""A folder of small immutable texts. It may be deleted at any time, and nothing that fails here fails anything else."""

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from hashlib import sha256
from pathlib import Path
from tempfile import NamedTemporaryFile


class FileCache:
    """One file a key, named by its hash; readable by its owner only."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def get(self, key: str) -> bytes | None:
        """None for what is not there, or not whole."""
        try:
            text = self._file(key).read_bytes()
        except OSError:
            return None
        digest, _, value = text.partition(b"\n")
        return value if digest == sha256(value).hexdigest().encode() else None

    def put(self, key: str, value: bytes) -> None:
        """Under its own hash, so that a torn file is seen."""
        with suppress(OSError):
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            with NamedTemporaryFile(dir=self._folder, delete=False) as file, _gone_on_failure(Path(file.name)):
                file.write(sha256(value).hexdigest().encode() + b"\n" + value)
                file.flush()
                Path(file.name).replace(self._file(key))

    def _file(self, key: str) -> Path:
        return self._folder / sha256(key.encode()).hexdigest()


@contextmanager
def _gone_on_failure(file: Path) -> Iterator[None]:
    """On a full disk each attempt would else leave another file."""
    try:
        yield
    except OSError:
        file.unlink()
        raise


def default_folder(environ: Mapping[str, str]) -> Path:
    """Where the user's caches lie."""
    base = environ.get("XDG_CACHE_HOME") or os.path.join(environ.get("HOME", "/tmp"), ".cache")  # noqa: PTH118, S108 - a cache may lie there
    return Path(base) / "reconciler"
