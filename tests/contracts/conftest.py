"""The targets that the contract suite runs over, by name."""

from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from threading import Event

import pytest

from reconciler.simulation.chance import Chance
from reconciler.simulation.faults import Faults
from reconciler.simulation.host import Host
from reconciler.simulation.reach import Reach
from reconciler.simulation.store import Store
from reconciler.simulation.target import SimulatedTarget
from reconciler.simulation.timeline import Timeline
from reconciler.targets.azure_target import AzureTarget
from reconciler.targets.gcs_target import GcsTarget
from reconciler.targets.gcs_upload import PART_BYTES
from reconciler.targets.local_target import LocalTarget
from reconciler.targets.retrying import Retrying
from reconciler.targets.s3_bucket import Bucket
from reconciler.targets.s3_custody import Lock, S3Custody
from reconciler.targets.s3_target import S3Target
from reconciler.targets.telling import Telling
from reconciler.world.clock import SystemClock
from reconciler.world.ports import Target
from tests.servers.azure import AzureServer, azure_server
from tests.servers.gcs import FakeGcs, StrictGcs, fake_gcs, strict_gcs
from tests.servers.git import git_lfs_target
from tests.servers.neon import as_published, own_neon
from tests.servers.s3 import S3Server, s3_server

__all__ = ["as_published", "azure_server", "fake_gcs", "own_neon", "s3_server", "strict_gcs"]


def _local(request: pytest.FixtureRequest) -> Target:
    folder: Path = request.getfixturevalue("tmp_path")
    return LocalTarget("disk", folder / "backups", clock=SystemClock())


def _s3(request: pytest.FixtureRequest, *, versioned: bool = False, prefix: str = "") -> Target:
    server: S3Server = request.getfixturevalue("s3_server")
    access = server.access(server.new_bucket(versioned=versioned))
    bucket = Bucket("s3", access, server.careful_client, prefix=prefix, clock=SystemClock(), stop=Event())
    return S3Target(bucket, domain="host:localhost")


def _gcs(
    request: pytest.FixtureRequest, server: str, *, prefix: str = "", page_items: int = 1000, part_bytes: int = PART_BYTES
) -> Target:
    google: FakeGcs | StrictGcs = request.getfixturevalue(server)
    bucket = google.bucket(prefix=prefix)
    return GcsTarget(
        bucket, domain="host:localhost", clock=SystemClock(), stop=Event(), page_items=page_items, part_bytes=part_bytes
    )


def _azure(request: pytest.FixtureRequest, *, prefix: str = "", page_items: int = 5000) -> Target:
    server: AzureServer = request.getfixturevalue("azure_server")
    container = server.container(prefix=prefix)
    return AzureTarget(container, domain="host:localhost", clock=SystemClock(), stop=Event(), page_items=page_items)


def _git_lfs(request: pytest.FixtureRequest, *, pushed: bool = False, prefix: str = "") -> Target:
    folder: Path = request.getfixturevalue("tmp_path")
    return git_lfs_target(folder, pushed=pushed, prefix=prefix)


def _locking_s3(request: pytest.FixtureRequest) -> Target:
    server: S3Server = request.getfixturevalue("s3_server")
    access = server.access(server.new_bucket(locked=True))
    bucket = Bucket("s3", access, server.careful_client, prefix="", clock=SystemClock(), stop=Event())
    custody = S3Custody(bucket, lock=Lock(mode="governance", retain=timedelta(hours=1)))
    return S3Target(bucket, domain="host:localhost", custody=custody)


def _simulated(request: pytest.FixtureRequest, *, versioned: bool = False, locks: bool = False) -> Target:
    timeline = Timeline(SystemClock().now())
    process = Host("host", timeline, boot="boot", namespace="pid:[1]", offset=0.0, drift=0.0).start()
    return SimulatedTarget(
        Store("simulated", timeline, versioned=versioned, locks=locks), Reach(process, Faults(Chance(0), share=0.0))
    )


LOCKING: dict[str, Callable[[pytest.FixtureRequest], Target]] = {
    "s3 that locks": _locking_s3,
    "simulated that locks": lambda request: _simulated(request, versioned=True, locks=True),
}
TARGETS: dict[str, Callable[[pytest.FixtureRequest], Target]] = {
    **LOCKING,
    "local": _local,
    "s3": _s3,
    "s3 with a prefix": lambda request: _s3(request, prefix="some/where/"),
    "s3 with versions": lambda request: _s3(request, versioned=True),
    "gcs": lambda request: _gcs(request, "strict_gcs"),
    "gcs with a prefix, in small pages and parts": lambda request: _gcs(
        request, "strict_gcs", prefix="some/where/", page_items=2, part_bytes=1 << 20
    ),
    "gcs at fake-gcs-server": lambda request: _gcs(request, "fake_gcs"),
    "azure": _azure,
    "azure with a prefix, in small pages": lambda request: _azure(request, prefix="some/where/", page_items=2),
    "git_lfs": _git_lfs,
    "git_lfs, pushed, with a prefix": lambda request: _git_lfs(request, pushed=True, prefix="some/where/"),
    "simulated": _simulated,
    "simulated with versions": lambda request: _simulated(request, versioned=True),
    "retrying local": lambda request: Retrying(_local(request), clock=SystemClock(), stop=Event()),
    "telling retrying s3": lambda request: Telling(Retrying(_s3(request), clock=SystemClock(), stop=Event()), lambda _: None),
}


@pytest.fixture(params=list(TARGETS))
def target(request: pytest.FixtureRequest) -> Target:
    return TARGETS[request.param](request)


@pytest.fixture(params=list(LOCKING))
def locking(request: pytest.FixtureRequest) -> Target:
    return LOCKING[request.param](request)
