"""How much memory a dump takes, by how many sessions write it: the largest process of ours, in MiB.

    python -m benchmarks.memory [--gigabytes 0.5] [--tables 12] [--jobs 1 2 4 8 16] [--level 3] [--age] [--folder .benchmark]

Makes a database of so many equal tables, and all else as `pipeline.py` does; removes everything.

    python -m benchmarks.memory --zstd

tells instead what one stream of zstd holds, by level and threads, of 600 MiB (60 above level 9) of which half is random.
"""

import argparse
import subprocess
import sys
from pathlib import Path

import psycopg

from benchmarks.pipeline import AGAIN, DRAWN, ROW_BYTES, SETS, Ground, dump, empty, is_new, servers

STREAM = """
import os, sys
from pathlib import Path
from reconciler.backups.pipeline import compress

def held():
    return int(Path("/proc/self/status").read_text().split("VmHWM:")[1].split()[0]) / 1024

level, threads = map(int, sys.argv[1:])
data = [os.urandom(1 << 19) + bytes(1 << 19) for _ in range(4)]
before = held()
for _ in compress((data[number % 4] for number in range(600 if level < 10 else 60)), level=level, threads=threads):
    pass
print(round(held() - before))
"""


def fill(ground: Ground, gigabytes: float, tables: int) -> None:
    """So many tables, equally large."""
    if not is_new(ground):
        return
    with psycopg.connect(ground.url, autocommit=True) as session:
        session.execute(DRAWN)
        each = int(gigabytes * 2**30 / ROW_BYTES / tables)
        for number in range(tables):
            name = f"rooms_{number}"
            session.execute(f"CREATE TABLE {name} AS TABLE drawn WITH NO DATA")
            for first in range(0, each, SETS):
                session.execute(AGAIN.format(name=name, first=first, most=min(SETS, each - first)))
        session.execute("DROP TABLE drawn")
        session.execute("CHECKPOINT")


def zstd() -> None:
    """Each in a process of its own: what one has let go is not always given back."""
    for level, threads in ((3, 1), (3, 2), (3, 4), (3, 8), (3, 32), (9, 1), (12, 1), (19, 1)):
        told = subprocess.run(
            [sys.executable, "-c", STREAM, str(level), str(threads)], capture_output=True, text=True, check=True
        )
        print(f"level {level}, threads {threads}: {told.stdout.strip()} MiB", flush=True)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--gigabytes", type=float, default=0.5)
    parser.add_argument("--tables", type=int, default=12)
    parser.add_argument("--jobs", type=int, nargs="*", default=[1, 2, 4, 8, 16])
    parser.add_argument("--level", type=int, default=3)
    parser.add_argument("--age", action="store_true", help="encrypted")
    parser.add_argument("--folder", type=Path, default=Path(".benchmark"))
    parser.add_argument("--keep", action="store_true", help="keep servers and data for the next run")
    parser.add_argument("--zstd", action="store_true", help="of one stream of zstd instead")
    arguments = parser.parse_args()
    if arguments.zstd:
        zstd()
        return 0
    with servers(arguments.folder.absolute(), keep=arguments.keep) as ground:
        fill(ground, arguments.gigabytes, arguments.tables)
        cases = {"custom": ""} | {f"directory, jobs {jobs}": f", format: directory, jobs: {jobs}" for jobs in arguments.jobs}
        print(f"{'dump':<24} {'seconds':>8} {'cpu':>6} {'rss':>5}")
        for name, more in cases.items():
            measured = dump(arguments.level, encrypted=arguments.age, more=more)(ground)
            print(f"{name:<24} {measured.seconds:8.1f} {measured.cpu:6.1f} {measured.rss:5}", flush=True)
            empty(ground)
    return 0


if __name__ == "__main__":
    sys.exit(main())
