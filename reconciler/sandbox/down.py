"""`reconcile sandbox down`: nothing of it runs any more, and with `purge` nothing of it is left."""

import shutil
from pathlib import Path

from reconciler.errors import Refused
from reconciler.sandbox.folder import held, is_sandbox
from reconciler.sandbox.neon.service import remove_neon, stop_neon
from reconciler.sandbox.postgres import remove_cluster, stop_cluster
from reconciler.sandbox.s3 import remove_server, stop_server


def down(folder: Path, *, purge: bool) -> bool:
    """End all servers; says whether one ran. Gone when it returns.

    Raises Refused for a folder that is no sandbox, Unreachable.
    """
    folder = folder.absolute()
    if not folder.exists():
        # Deleted by hand, perhaps, under servers that still run.
        return _end(folder, purge=purge)
    if not is_sandbox(folder):
        raise Refused(f"{folder} is no sandbox", cure="name the sandbox's folder with --dir")
    with held(folder):
        ran = _end(folder, purge=purge)
        if purge:
            shutil.rmtree(folder)
    return ran


def _end(folder: Path, *, purge: bool) -> bool:
    ran = [stop_neon(folder / "neon"), stop_server(folder / "s3"), stop_cluster(folder / "postgres")]
    if purge:
        remove_neon(folder / "neon")
        remove_server(folder / "s3")
        remove_cluster(folder / "postgres")
    return any(ran)
