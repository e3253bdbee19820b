"""`reconcile sandbox up`: both servers run, the hotel is open, and the files say where."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from reconciler.sandbox.binaries import postgres_binaries, weed_binary
from reconciler.sandbox.folder import claim, held
from reconciler.sandbox.postgres import Cluster, start_cluster
from reconciler.sandbox.references import BUCKET, remembered_backup_password, write_references
from reconciler.sandbox.s3 import Server, make_bucket, start_server
from reconciler.sandbox.seed import seed
from reconciler.sandbox.status import Status, status
from reconciler.world.clock import token


def up(folder: Path, *, tell: Callable[[str], None]) -> Status:
    """Start what does not run, make what is missing, repair what was killed; all as it was is fine. Raises Refused, Unreachable.

    `tell` hears, for people, what takes a while. Two callers at once take turns.
    """
    folder = folder.absolute()
    binaries = postgres_binaries()
    weed_binary()
    claim(folder)
    with held(folder):
        claim(folder)
        # Side by side: they have nothing to do with each other, and each mostly waits.
        with ThreadPoolExecutor(max_workers=2) as pool:
            s3 = pool.submit(_s3, folder)
            cluster, password = _postgres(folder, binaries, tell)
            server = s3.result()
        write_references(folder, cluster=cluster, backup_password=password, server=server)
        return status(folder)


def _postgres(folder: Path, binaries: Path, tell: Callable[[str], None]) -> tuple[Cluster, str]:
    cluster = start_cluster(binaries, folder / "postgres", log=folder / "log" / "postgres.log")
    password = remembered_backup_password(folder) or token(16)
    if seed(cluster, backup_password=password):
        tell("made the hotel database")
    return cluster, password


def _s3(folder: Path) -> Server:
    server = start_server(folder / "s3", log=folder / "log" / "s3.log")
    make_bucket(server, BUCKET)
    return server
