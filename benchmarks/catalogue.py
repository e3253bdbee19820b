"""How long a catalogue of many backups takes to be seen, as ratios against a plain listing of the same objects run side by side.

    python -m benchmarks.catalogue [--backups 10000] [--rounds 3] [--folder .benchmark]

Takes one real backup of a small database to a folder and to an S3 server of its own, makes so many of it, with ids and
instants of their own, and removes it all. Told are medians of `reconcile backups list`, the program's start included.

listing    a bare listing of all objects, in a program that does nothing else
first      a catalogue that was never seen: every manifest is read
again      the same, unchanged: the cache knows the manifests by what the listing says of them
ratio      to the listing of the same round
cpu        seconds of CPU that the process used
MiB        its peak memory
"""

import argparse
import re
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path
from shutil import rmtree
from statistics import median
from time import perf_counter
from typing import Any, NamedTuple

import boto3
import msgspec
import psycopg

from benchmarks.pipeline import BUCKET, Ground, reconcile, servers
from reconciler.backups.layout import backup_id, instant_of

POLICY = """
version: 1
metadata: {{name: benchmark, owner: nobody}}
targets:
  disk: {{type: local, path: ./disk}}
  bucket: {{type: s3, bucket: {bucket}, endpoint: {endpoint}, access_key_id: "${{AWS_ACCESS_KEY_ID}}",
    secret_access_key: "${{AWS_SECRET_ACCESS_KEY}}"}}
databases:
  big:
    source: {{provider: postgres, url: "${{SOURCE_URL}}"}}
    encryption: none
    dumps: {{schedule: "0 2 * * *", targets: [{target}]}}
"""
HERE = Path(__file__).resolve().parent.parent
LISTINGS = {
    "disk": "import os, sys; print(sum(len(files) for _, _, files in os.walk('disk')))",
    "bucket": "import boto3, os; print(sum(len(page.get('Contents', ())) for page in boto3.client('s3').get_paginator("
    f"'list_objects_v2').paginate(Bucket='{BUCKET}')))",
}


USED = (
    "import os, sys; pid = os.posix_spawn(sys.argv[1], sys.argv[1:], os.environ); _, status, used = os.wait4(pid, 0); "
    "os.write(2, b'used %d %f' % (used.ru_maxrss, used.ru_utime + used.ru_stime)); sys.exit(status != 0)"
)
"""Runs a program from a small one: what the system counts for a child begins with its parent's peak."""


class Taken(NamedTuple):
    """What one run of a command took."""

    seconds: float
    cpu: float
    mebibytes: float


def timed(ground: Ground, argv: list[str]) -> Taken:
    """A whole process."""
    began = perf_counter()
    done = subprocess.run(
        [sys.executable, "-S", "-c", USED, *argv],
        cwd=ground.folder,
        env=ground.environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        check=False,
    )
    seconds = perf_counter() - began
    if done.returncode:
        raise SystemExit(f"{' '.join(argv)} failed: {done.stderr.decode()}")
    kibibytes, cpu = map(float, done.stderr.rpartition(b"used ")[2].split())
    return Taken(seconds, cpu, kibibytes / 1024)


def backed_up(ground: Ground, target: str) -> None:
    """One real backup, by the program itself."""
    text = POLICY.format(bucket=BUCKET, endpoint=ground.endpoint, target=target)
    (ground.folder / "backup-policy.yaml").write_text(text)
    timed(ground, reconcile("backups", "take"))


def many(count: int, objects: dict[str, bytes], put: Callable[[str, bytes], None]) -> None:
    """So many of the one that is there, an hour apart, each with a manifest of its own."""
    (first,) = {name.split("/")[2] for name in objects if "/backups/" in name}
    tail, slot = first.rpartition("-")[2], instant_of(first)

    def one(number: int) -> None:
        at = slot - timedelta(hours=number)
        new = backup_id(at, tail)
        for name, content in objects.items():
            if f"/backups/{first}/" in name:
                put(name.replace(first, new), dated(content, first, new, at) if name.endswith("manifest.json") else content)

    with ThreadPoolExecutor(16) as pool:
        list(pool.map(one, range(1, count)))


def dated(manifest: bytes, first: str, new: str, at: Any) -> bytes:
    """The manifest as that backup's would be."""
    found = msgspec.json.decode(manifest)
    for field in ("instant", "started", "finished"):
        found[field] = at.isoformat()
    return re.sub(first.encode(), new.encode(), msgspec.json.encode(found))


def on_disk(ground: Ground, count: int) -> None:
    """Written as plain files."""
    root = ground.folder / "disk"
    objects = {str(file.relative_to(root)): file.read_bytes() for file in root.rglob("*") if file.is_file()}

    def put(name: str, content: bytes) -> None:
        (root / name).parent.mkdir(exist_ok=True)
        (root / name).write_bytes(content)

    many(count, objects, put)


def in_bucket(ground: Ground, count: int) -> None:
    """Written by the store's own interface."""
    client: Any = boto3.client(
        "s3",
        endpoint_url=ground.endpoint,
        region_name="us-east-1",
        aws_access_key_id=ground.environment["AWS_ACCESS_KEY_ID"],
        aws_secret_access_key=ground.environment["AWS_SECRET_ACCESS_KEY"],
    )
    keys = [item["Key"] for item in client.list_objects_v2(Bucket=BUCKET)["Contents"]]
    objects = {key: client.get_object(Bucket=BUCKET, Key=key)["Body"].read() for key in keys}
    many(count, objects, lambda name, content: client.put_object(Bucket=BUCKET, Key=name, Body=content))


def main() -> int:
    """One target after the other."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--backups", type=int, default=10_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--folder", type=Path, default=HERE / ".benchmark")
    arguments = parser.parse_args()
    with servers(arguments.folder.absolute(), keep=False) as ground:
        with psycopg.connect(ground.admin_url, autocommit=True) as admin:
            admin.execute("CREATE DATABASE big TEMPLATE template0")
        for target, fill in (("disk", on_disk), ("bucket", in_bucket)):
            backed_up(ground, target)
            fill(ground, arguments.backups)
            rounds: list[tuple[Taken, ...]] = []
            for _ in range(arguments.rounds):
                rmtree(ground.folder / "cache", ignore_errors=True)
                listing = [sys.executable, "-c", LISTINGS[target]]
                commands = (listing, reconcile("backups", "list"), reconcile("backups", "list"))
                rounds.append(tuple(timed(ground, command) for command in commands))
            for name, column in zip(("listing", "first", "again"), zip(*rounds, strict=True), strict=True):
                ratio = median(one.seconds / others[0].seconds for one, others in zip(column, rounds, strict=True))
                seconds, cpu = median(one.seconds for one in column), median(one.cpu for one in column)
                rss = max(one.mebibytes for one in column)
                print(f"{target:<8} {name:<8} {seconds:7.2f} s  {ratio:5.1f} x  {cpu:6.2f} cpu  {rss:5.0f} MiB", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
