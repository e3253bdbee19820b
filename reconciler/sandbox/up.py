"""`reconcile sandbox up`: all servers run, the hotel is open, and the files say where."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from reconciler.sandbox.binaries import postgres_binaries, weed_binary
from reconciler.sandbox.folder import claim, held
from reconciler.sandbox.neon.service import Neon, start_neon
from reconciler.sandbox.postgres import Cluster, start_cluster
from reconciler.sandbox.references import BUCKET, remembered_backup_password, write_neon_references, write_references
from reconciler.sandbox.s3 import Server, make_bucket, start_server
from reconciler.sandbox.seed import seed
from reconciler.sandbox.status import Status, status
from reconciler.world.clock import token


def up(folder: Path, *, tell: Callable[[str], None], with_neon: bool = True) -> Status:
    """Start what does not run, make what is missing, repair what was killed; all as it was is fine. Raises Refused, Unreachable.

    `tell` hears, for people, what takes a while. `with_neon` False leaves Neon out, for tests. Two callers at once take turns.
    """
    folder = folder.absolute()
    binaries = postgres_binaries()
    weed_binary()
    claim(folder)
    with held(folder):
        claim(folder)
        # Side by side: they have nothing to do with each other, and each mostly waits.
        with ThreadPoolExecutor(max_workers=3) as pool:
            s3 = pool.submit(_s3, folder)
            neon = pool.submit(_neon, folder, tell) if with_neon else None
            cluster, password = _postgres(folder, binaries, tell)
            server = s3.result()
        write_references(folder, cluster=cluster, backup_password=password, server=server)
        if neon:
            write_neon_references(folder, neon.result())
        return status(folder)


def _postgres(folder: Path, binaries: Path, tell: Callable[[str], None]) -> tuple[Cluster, str]:
    cluster = start_cluster(binaries, folder / "postgres", log=folder / "log" / "postgres.log")
    password = remembered_backup_password(folder) or token(16)
    if seed(cluster, backup_password=password):
        tell("made the hotel database")
    return cluster, password


def _neon(folder: Path, tell: Callable[[str], None]) -> Neon:
    is_new = not (folder / "neon").exists()
    neon = start_neon(folder / "neon", with_hotel=True, log=folder / "log" / "neon.log")
    if is_new:
        tell("made a Neon project with the hotel in it")
    return neon


def _s3(folder: Path) -> Server:
    server = start_server(folder / "s3", log=folder / "log" / "s3.log")
    make_bucket(server, BUCKET)
    return server
