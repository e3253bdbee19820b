"""How long a branch of a small database takes, beside what lies underneath: copying the files, and PostgreSQL's own recovery.

    python benchmarks/branching.py [TURNS]

Prints the medians and their ratio, which should be 1.5 at most; exits with 1 if it is more.
"""

import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import psycopg

from reconciler.sandbox import ports
from reconciler.sandbox.binaries import postgres_binaries
from reconciler.sandbox.neon import lsn as log
from reconciler.sandbox.neon.archive import take_base
from reconciler.sandbox.neon.clusters import SUPERUSER, Clusters
from reconciler.sandbox.neon.records import Base, Timeline
from reconciler.sandbox.neon.recovery import derive
from reconciler.sandbox.neon.work import Target
from reconciler.sandbox.places import made
from reconciler.sandbox.postgres import FAST
from reconciler.world.account import lent_account
from reconciler.world.programs import runnable

MOST = 1.5


def main() -> int:
    turns = int(sys.argv[1]) if len(sys.argv) > 1 else 9
    with tempfile.TemporaryDirectory(prefix="branching-") as folder:
        home = made(Path(folder) / "neon")
        account = lent_account()
        clusters = Clusters(home=home, programs=runnable(postgres_binaries(), account), account=account)
        try:
            return compare(clusters, turns)
        finally:
            for timeline in clusters.all():
                clusters.drop(timeline)
            shutil.rmtree(home)


def compare(clusters: Clusters, turns: int) -> int:
    born = clusters.make_root("root")
    base = take_base(clusters, "root")
    root = Timeline(id="root", parent=None, start=0, born=born.at, bases=(base,))
    with clusters.connect("root") as connection:
        connection.execute("create table rows as select n, repeat('x', 100) as text from generate_series(1, 20000) as n")
    target = clusters.now("root").lsn
    ours, bare = [], []
    for _ in range(turns):
        # In turns: the machine has its moods.
        bare.append(timed(lambda: copy_and_recover(clusters, base, target)))
        clusters.drop("bare")
        ours.append(timed(lambda: derive(clusters, "branch", [root], Target(lsn=target))))
        clusters.drop("branch")
    ratio = statistics.median(ours) / statistics.median(bare)
    print(f"bare copy and recovery  {statistics.median(bare):.2f} s")
    print(f"branch                  {statistics.median(ours):.2f} s, {ratio:.2f} times that")
    return 0 if ratio <= MOST else 1


def timed(work: Callable[[], object]) -> float:
    begun = time.monotonic()
    work()
    return time.monotonic() - begun


def copy_and_recover(clusters: Clusters, base: Base, target: int) -> None:
    """What anybody would type: cp, a restore_command, postgres, and asking until it is through."""
    root, data, port = clusters.folder("root"), clusters.data("bare"), ports.choose(1, clusters.home, purpose="bare")[0]
    data.parent.mkdir(mode=0o711)
    subprocess.run(["cp", "-a", str(root / "bases" / f"{base.start:016X}"), str(data)], check=True)  # noqa: S607
    (data / "recovery.signal").touch()
    settings = {
        **FAST,
        "port": str(port),
        "listen_addresses": "127.0.0.1",
        "unix_socket_directories": "",
        "shared_buffers": "24MB",
        "restore_command": f"cp {root}/wal/%f %p || cp {root}/data/pg_wal/%f %p",
        "recovery_target_lsn": log.written(target),
        "recovery_target_inclusive": "off",
        "recovery_target_action": "promote",
    }
    account: dict[str, int] = {}
    if clusters.account:
        subprocess.run(["chown", "-R", f"{clusters.account.uid}:{clusters.account.gid}", str(data)], check=True)  # noqa: S607
        account = {"user": clusters.account.uid, "group": clusters.account.gid}
    argv = [str(clusters.programs / "postgres"), *(f"--{name}={value}" for name, value in settings.items()), "-D", str(data)]
    subprocess.Popen(argv, stderr=subprocess.DEVNULL, cwd="/", start_new_session=True, **account)  # type: ignore[call-overload]
    while not is_through(clusters, port):
        time.sleep(0.005)


def is_through(clusters: Clusters, port: int) -> bool:
    try:
        password = (clusters.home / "password").read_text()
        with psycopg.connect(
            host="127.0.0.1", port=port, user=SUPERUSER, password=password, dbname="postgres", autocommit=True
        ) as connection:
            return connection.execute("select not pg_is_in_recovery()").fetchone() == (True,)
    except psycopg.OperationalError:
        return False


if __name__ == "__main__":
    sys.exit(main())
