"""A policy, its environment and its world, opened as the command line opens them: real servers, a clock nobody waits for."""

from collections.abc import Callable, Mapping
from pathlib import Path
from threading import Event as StopEvent

import msgspec

from reconciler.connect import KINDS, Means, connect
from reconciler.doctor.examine import examine
from reconciler.doctor.report import Checkup
from reconciler.errors import Finding
from reconciler.policy.loading import load
from reconciler.policy.model import Policy
from reconciler.policy.redaction import Redactor
from reconciler.policy.secret import Surroundings
from reconciler.world.cache import FileCache
from reconciler.world.clock import SystemClock, token
from reconciler.world.events import Event
from reconciler.world.pool import InlinePool
from reconciler.world.ports import World
from reconciler.world.process import SystemProcess
from tests.servers.s3 import S3Server

POLICY = """version: 1
metadata: {{name: test, owner: nobody}}
targets:
  disk: {{type: local, path: ./disk}}
  offsite: {{type: s3, bucket: "{bucket}", prefix: "x/", endpoint: "{endpoint}", access_key_id: "${{KEY}}",
            secret_access_key: "${{SECRET}}", {lock} domain: elsewhere}}
databases:
  hotel:
    source: {{provider: postgres, url: "${{URL}}"}}
    encryption: {encryption}
    home: {home}
    dumps: {{schedule: "0 2 * * *", targets: [{targets}]{dumps}}}
{more}"""

NOWHERE = "postgresql://backup@127.0.0.1:1/hotel?connect_timeout=2"


class HastyClock(SystemClock):
    """The real time; whoever waits is told that the wait is over."""

    def wait(self, seconds: float, stop: StopEvent) -> bool:
        return stop.is_set()


class Standing(msgspec.Struct, frozen=True, kw_only=True):
    """What is examined."""

    policy: Policy
    world: World

    @property
    def folder(self) -> Path:
        """Of the target `disk`."""
        return self.policy.path.parent / "disk"

    def examine(self, *only: str, world: World | None = None) -> Checkup:
        return examine(self.policy, self.policy.databases["hotel"], world or self.world, only=only)


def stand(
    folder: Path,
    *,
    targets: str = "disk",
    url: str = NOWHERE,
    s3: S3Server | None = None,
    bucket: str = "unused",
    endpoint: str = "",
    keys: tuple[str, str] | None = None,
    lock: str = "",
    encryption: str = "none",
    dumps: str = "",
    more: str = "",
    variables: Mapping[str, str] | None = None,
    tell: Callable[[Event], None] = lambda _: None,
    stop: StopEvent | None = None,
) -> Standing:
    """The first of `targets` is home; `endpoint`: of a proxy before the S3 server; `dumps`, `more`: added to those sections."""
    text = POLICY.format(
        bucket=bucket,
        endpoint=endpoint or (s3.endpoint if s3 else "http://127.0.0.1:1"),
        targets=targets,
        lock=lock,
        encryption=encryption,
        dumps=dumps,
        more=more,
        home=targets.partition(",")[0],
    )
    policy = load(text.encode(), KINDS, path=folder / "backup-policy.yaml")
    environ = {"URL": url, **(variables or {})}
    if s3 or keys:
        access, secret = (s3.access_key_id, s3.secret_access_key) if s3 else keys or ("", "")
        environ |= {"KEY": access, "SECRET": secret}
    means = Means(
        surroundings=Surroundings(base=folder, environ=environ, redactor=Redactor()),
        clock=HastyClock(),
        process=SystemProcess(),
        pool=InlinePool(),
        cache=FileCache(folder / "cache"),
        stop=stop or StopEvent(),
        tell=tell,
        token=token,
    )
    return Standing(policy=policy, world=connect(policy, policy.databases["hotel"], means, writable=True))


def errors(checkup: Checkup) -> list[Finding]:
    return [finding for finding in checkup.findings if finding.severity == "error"]


def said(checkup: Checkup, where: str) -> list[str]:
    """The checks of a place that passed."""
    return [passed.what for passed in checkup.passed if passed.where == where]
