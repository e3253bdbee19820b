"""How fast a dump and a restore are, as ratios against what people type by hand, run side by side on the same servers.

    python benchmarks/pipeline.py [--gigabytes 2] [--rounds 3] [--only WORD …] [--folder .benchmark] [--keep]

Makes its own data (text, JSON, numbers), its own PostgreSQL and its own S3 server, and removes them. Each round runs every
case once, so that a slow moment of the machine is everybody's; told are medians. Needs `zstd` and `aws` for some cases.

seconds    from the start of the program to its end
ratio      to the bare `pg_dump … >/dev/null` (to `pg_restore -j2` for restores) of the same round
cpu        seconds of CPU that the case used: its own processes, PostgreSQL's and the S3 server's
floor      cpu over the cores: no overlap can beat it
rss        the largest process of ours or of a child, in MiB
"""

import argparse
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from secrets import token_hex
from statistics import median
from time import perf_counter, sleep
from typing import NamedTuple

import boto3
import psycopg

from reconciler.sandbox.binaries import postgres_binaries
from reconciler.sandbox.postgres import FAST, remove_cluster, start_cluster
from reconciler.sandbox.s3 import make_bucket, remove_server, start_server

HERE = Path(__file__).resolve().parent.parent
BUCKET = "benchmark"
SETS = 50_000
"""Rows that are drawn; the rest repeats their text under fresh numbers, since drawing all would take longer than the rest."""
ROW_BYTES = 640
"""In the archive, about."""
SETTLE_SECONDS = 0.5
"""A backend's CPU is its parent's only once it has ended."""
TICKS = os.sysconf("SC_CLK_TCK")

WORDS = "room guest night breakfast late early double view sea quiet paid cancelled Madrid invoice company towels"
DRAWN = f"""
CREATE TABLE drawn AS SELECT n AS id,
  (SELECT string_agg((string_to_array('{WORDS}', ' '))[1 + (random() * 15)::int] || CASE WHEN random() < 0.1 THEN ', ' ELSE ' ' END, '')
   FROM generate_series(1, 50 + n * 0)) AS remark,
  jsonb_build_object('token', md5(n::text), 'nights', (random() * 14)::int, 'price', round((random() * 900)::numeric, 2), 'guest',
      jsonb_build_object('id', (random() * 1e6)::int, 'news', random() < 0.3, 'speaks', jsonb_build_array('es', 'en'))) AS details,
  random() AS score, (random() * 1e9)::bigint AS amount, now() - random() * interval '3000 days' AS made,
  md5(random()::text) AS reference
FROM generate_series(1, {SETS}) n
"""  # noqa: E501, S608
AGAIN = """
INSERT INTO {name} SELECT id + {first}, remark, details, random(), (random() * 1e9)::bigint, made, md5(random()::text)
  FROM drawn LIMIT {most}
"""

POLICY = """version: 1
metadata: {{name: benchmark, owner: nobody}}
targets:
  primary: {{type: s3, bucket: {bucket}, prefix: "{prefix}/", endpoint: "{endpoint}", region: us-east-1, domain: elsewhere,
            access_key_id: "${{AWS_ACCESS_KEY_ID}}", secret_access_key: "${{AWS_SECRET_ACCESS_KEY}}"}}
databases:
  big:
    source: {{provider: postgres, url: "${{SOURCE_URL}}"}}
    encryption: {encryption}
    dumps: {{schedule: "0 2 * * *", targets: [primary], compression: {{level: {level}}}, fingerprint: {fingerprint}{more}}}
"""


class Measured(NamedTuple):
    seconds: float
    cpu: float
    rss: int


class Ground(NamedTuple):
    """The servers, and where the commands run."""

    folder: Path
    url: str
    admin_url: str
    endpoint: str
    environment: Mapping[str, str]
    pids: tuple[int, ...]

    @property
    def keys(self) -> dict[str, str]:
        names = ("aws_access_key_id", "aws_secret_access_key")
        return {name: self.environment[name.upper()] for name in names}


Case = Callable[[Ground], Measured]


def used(pids: tuple[int, ...]) -> float:
    """CPU seconds of these servers so far, with those of their children that have ended: a backend is one."""
    fields = [Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split() for pid in pids]
    return sum(int(ticks) for each in fields for ticks in each[11:15]) / TICKS


def timed(ground: Ground, argv: list[str], **more: str) -> Measured:
    before, began = used(ground.pids), perf_counter()
    process = subprocess.Popen(argv, cwd=ground.folder, env={**ground.environment, **more}, stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    took = perf_counter() - began
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode != 0:
        raise SystemExit(f"{' '.join(argv)[:200]} ended with {process.returncode}")
    sleep(SETTLE_SECONDS)
    own = usage.ru_utime + usage.ru_stime
    return Measured(took, own + used(ground.pids) - before, usage.ru_maxrss // 1024)


def shell(line: str) -> Case:
    """What somebody would type."""
    return lambda ground: timed(ground, ["bash", "-o", "pipefail", "-ec", line])


def dump(level: int, *, encrypted: bool = False, fingerprint: str = "none", more: str = "") -> Case:
    """`reconcile backups take`, from the start of the program to its end."""

    def run(ground: Ground) -> Measured:
        encryption = f"{{age_recipients: [{ground.environment['RECIPIENT']}]}}" if encrypted else "none"
        write_policy(ground, token_hex(4), level, encryption, fingerprint, more=more)
        return timed(ground, reconcile("backups", "take"))

    return run


def write_policy(ground: Ground, prefix: str, level: int, encryption: str, fingerprint: str, *, more: str = "") -> None:
    text = POLICY.format(
        bucket=BUCKET,
        prefix=prefix,
        endpoint=ground.endpoint,
        level=level,
        encryption=encryption,
        fingerprint=fingerprint,
        more=more,
    )
    (ground.folder / "backup-policy.yaml").write_text(text)


def reconcile(*words: str) -> list[str]:
    return [sys.executable, "-m", "reconciler.cli.main", *words]


DIRECTORY = ", format: directory, jobs: 2"
KEPT = {"kept": "", "kept-files": DIRECTORY}
"""Prefixes of the backups that are restored, and what is special about them."""
BARE = "pg_dump -Fc >/dev/null"
DUMPS: dict[str, Case] = {
    BARE: shell('pg_dump -Fc --compress=0 "$SOURCE_URL" >/dev/null'),
    "reconcile, zstd 1": dump(1),
    "reconcile, zstd 3": dump(3),
    "reconcile, zstd 3, directory": dump(3, more=DIRECTORY),
    "reconcile, zstd 3, age": dump(3, encrypted=True),
    "reconcile, zstd 3, age, counts": dump(3, encrypted=True, fingerprint="counts"),
    "reconcile, zstd 3, checksums": dump(3, fingerprint="checksums"),
    "pg_dump -Z0 | zstd -T0 -1 | aws": shell(
        'pg_dump -Fc --compress=0 "$SOURCE_URL" | zstd -q -T0 -1 | aws s3 cp - "s3://benchmark/pipe1"'
    ),
    "pg_dump -Z0 | zstd -T0 -3 | aws": shell(
        'pg_dump -Fc --compress=0 "$SOURCE_URL" | zstd -q -T0 -3 | aws s3 cp - "s3://benchmark/pipe3"'
    ),
    "pg_dump -Fc | aws": shell('pg_dump -Fc "$SOURCE_URL" | aws s3 cp - "s3://benchmark/gzip"'),
    "runbook: pg_dump -Fc > f; gzip; aws": shell(
        'rm -f f f.gz; pg_dump -Fc "$SOURCE_URL" > f; gzip f; aws s3 cp --only-show-errors f.gz "s3://benchmark/runbook"; rm f.gz'
    ),
}


def restore(*words: str, kept: str = "kept") -> Case:
    """`reconcile backups restore` of the backup under that prefix, into a database made for it."""

    def run(ground: Ground) -> Measured:
        write_policy(ground, kept, 3, "none", "none", more=KEPT[kept])
        ids = subprocess.run(
            reconcile("backups", "list"), cwd=ground.folder, env=ground.environment, capture_output=True, text=True, check=True
        )
        backup = next(word for word in ids.stdout.split() if word[:1] == "2" and "Z-" in word)
        with database(ground) as url:
            return timed(ground, reconcile("backups", "restore", backup, "--into", "${INTO}", *words), INTO=url)

    return run


def by_hand(line: str) -> Case:
    """The same by a shell's line."""

    def run(ground: Ground) -> Measured:
        with database(ground) as url:
            return timed(ground, ["bash", "-o", "pipefail", "-ec", line], INTO=url)

    return run


PARALLEL = "pg_restore -j2, local file"
RESTORES: dict[str, Case] = {
    PARALLEL: by_hand('pg_restore -j2 --dbname="$INTO" local.dump'),
    "pg_restore, local file": by_hand('pg_restore --dbname="$INTO" local.dump'),
    "pg_restore -j2, local folder": by_hand('pg_restore -j2 --dbname="$INTO" local.files'),
    "pg_restore -j2, local folder, gzip": by_hand('pg_restore -j2 --dbname="$INTO" local.gzip'),
    "zstd -d; pg_restore -j2, local": by_hand(
        'mkdir again; zstd -q -d --output-dir-flat again local.zst/*; pg_restore -j2 --dbname="$INTO" again; rm -r again'
    ),
    "aws; zstd -d; pg_restore -j2": by_hand(
        "aws s3 cp --only-show-errors --recursive --exclude '*' --include '*/dump/*' s3://benchmark/kept-files/ again;"
        ' zstd -q -d --rm again/big/backups/*/dump/*; pg_restore -j2 --dbname="$INTO" again/big/backups/*/dump; rm -r again'
    ),
    "restore": restore(),
    "restore --jobs 2": restore("--jobs", "2"),
    "restore, directory": restore(kept="kept-files"),
    "restore --jobs 2, directory": restore("--jobs", "2", kept="kept-files"),
    "restore --jobs 2 --spool, directory": restore("--jobs", "2", "--spool", ".", kept="kept-files"),
    "restore --table (a tenth), directory": restore("--table", "public.rooms", kept="kept-files"),
}


@contextmanager
def database(ground: Ground) -> Iterator[str]:
    name = f"again_{token_hex(4)}"
    with psycopg.connect(ground.admin_url, autocommit=True) as admin:
        admin.execute(f"CREATE DATABASE {name} TEMPLATE template0")
        try:
            yield ground.admin_url.rpartition("/")[0] + f"/{name}"
        finally:
            admin.execute(f"DROP DATABASE {name} WITH (FORCE)")


@contextmanager
def servers(folder: Path, *, keep: bool) -> Iterator[Ground]:
    from reconciler.backups.encryption import new_pair

    folder.mkdir(exist_ok=True)
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)  # an installed program has its bytecode, and does not compile at each start
    try:
        settings = {**FAST, "max_wal_size": "4GB", "shared_buffers": "256MB", "autovacuum": "off"}
        cluster = start_cluster(postgres_binaries(), folder / "postgres", settings=settings)
        server = start_server(folder / "s3")
        make_bucket(server, BUCKET)
        admin = cluster.url()
        yield Ground(
            folder=folder,
            url=admin.rpartition("/")[0] + "/big",
            admin_url=admin,
            endpoint=server.endpoint,
            pids=(cluster.process.pid, server.process.pid),
            environment={
                **os.environ,
                "PATH": f"{cluster.binaries}:{os.environ['PATH']}",
                "PYTHONPATH": str(HERE),
                "SOURCE_URL": admin.rpartition("/")[0] + "/big",
                "AWS_ACCESS_KEY_ID": server.access_key_id,
                "AWS_SECRET_ACCESS_KEY": server.secret_access_key,
                "AWS_ENDPOINT_URL": server.endpoint,
                "AWS_DEFAULT_REGION": "us-east-1",
                "XDG_CACHE_HOME": str(folder / "cache"),
                "RECIPIENT": new_pair()[1],
            },
        )
    finally:
        if not keep:
            remove_cluster(folder / "postgres")
            remove_server(folder / "s3")
            shutil.rmtree(folder, ignore_errors=True)


def is_new(ground: Ground) -> bool:
    """Whether the database had to be made; else it was kept, with what is in it."""
    with psycopg.connect(ground.admin_url, autocommit=True) as admin:
        if admin.execute("SELECT 1 FROM pg_database WHERE datname = 'big'").fetchone():
            return False
        admin.execute("CREATE DATABASE big TEMPLATE template0")
        return True


def fill(ground: Ground, gigabytes: float) -> None:
    """One large table and three smaller ones, so that two jobs have something to do."""
    if not is_new(ground):
        return
    with psycopg.connect(ground.url, autocommit=True) as session:
        session.execute(DRAWN)
        rows = int(gigabytes * 2**30 / ROW_BYTES)
        for name, share in (("bookings", 0.4), ("guests", 0.3), ("invoices", 0.2), ("rooms", 0.1)):
            session.execute(f"CREATE TABLE {name} AS TABLE drawn WITH NO DATA")
            for first in range(0, int(rows * share), SETS):
                session.execute(AGAIN.format(name=name, first=first, most=int(rows * share) - first))
            session.execute(f"ALTER TABLE {name} ADD PRIMARY KEY (id)")
        session.execute("DROP TABLE drawn")
        session.execute("CHECKPOINT")


def table(title: str, cases: Mapping[str, Case], ground: Ground, rounds: int, baseline: str) -> None:
    found: dict[str, list[Measured]] = {name: [] for name in cases}
    for number in range(rounds):
        for name, case in cases.items():
            found[name].append(case(ground))
            print(f"  round {number + 1}: {name}: {found[name][-1].seconds:.1f} s", file=sys.stderr, flush=True)
            empty(ground)
    print(f"\n{title:<38} {'seconds':>8} {'ratio':>7} {'cpu':>6} {'floor':>6} {'rss':>5}")
    for name, all_of_it in found.items():
        ratio = median(one.seconds / base.seconds for one, base in zip(all_of_it, found[baseline], strict=True))
        cpu = median(one.cpu for one in all_of_it)
        seconds = median(one.seconds for one in all_of_it)
        floor = cpu / (os.cpu_count() or 1)
        print(f"{name:<38} {seconds:8.1f} {ratio:6.2f}x {cpu:6.1f} {floor:6.1f} {max(one.rss for one in all_of_it):5}")


def empty(ground: Ground) -> None:
    """Dirty pages of one case are not the next one's to write, and a full disk is nobody's."""
    s3 = boto3.client("s3", endpoint_url=ground.endpoint, region_name="us-east-1", **ground.keys)
    for each in s3.list_objects_v2(Bucket=BUCKET).get("Contents", []):
        if each["Key"].partition("/")[0] not in KEPT:
            s3.delete_object(Bucket=BUCKET, Key=each["Key"])
    os.sync()


def chosen(cases: Mapping[str, Case], words: list[str], baseline: str) -> dict[str, Case]:
    return {name: case for name, case in cases.items() if name == baseline or not words or any(word in name for word in words)}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--gigabytes", type=float, default=2.0)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", nargs="*", default=[], metavar="WORD", help="cases whose name holds one of these")
    parser.add_argument("--skip", choices=("dumps", "restores"), help="leave one half out")
    parser.add_argument("--folder", type=Path, default=Path(".benchmark"))
    parser.add_argument("--keep", action="store_true", help="keep servers and data for the next run")
    arguments = parser.parse_args()
    with servers(arguments.folder.absolute(), keep=arguments.keep) as ground:
        fill(ground, arguments.gigabytes)
        if arguments.skip != "dumps":
            table("dump", chosen(DUMPS, arguments.only, BARE), ground, arguments.rounds, BARE)
        if arguments.skip != "restores":
            shell('pg_dump -Fc --compress=0 "$SOURCE_URL" > local.dump')(ground)
            shell('rm -rf local.files; pg_dump -Fd -j2 --compress=0 --file=local.files "$SOURCE_URL"')(ground)
            shell('rm -rf local.gzip; pg_dump -Fd -j2 --file=local.gzip "$SOURCE_URL"')(ground)
            shell("rm -rf local.zst; cp -r local.files local.zst; zstd -q -3 -T0 --rm -r local.zst")(ground)
            for kept, more in KEPT.items():
                write_policy(ground, kept, 3, "none", "none", more=more)
                timed(ground, reconcile("backups", "take"))
            table("restore", chosen(RESTORES, arguments.only, PARALLEL), ground, arguments.rounds, PARALLEL)
    return 0


if __name__ == "__main__":
    sys.exit(main())
