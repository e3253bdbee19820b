"""Stand-in kinds, so that the policy is tested without the targets and providers that there really are."""

from pathlib import Path
from typing import Annotated

import msgspec
from msgspec import Meta

from reconciler.errors import BadPolicy, Finding
from reconciler.policy import load
from reconciler.policy.kinds import Kind, Kinds
from reconciler.policy.model import Policy
from reconciler.policy.secret import Secret, Text


class Folder(msgspec.Struct, frozen=True, kw_only=True, tag_field="type", tag="local", forbid_unknown_fields=True):
    """A folder."""

    path: Annotated[str, Meta(description="The folder.", examples=["./.backups"], min_length=1)]
    domain: Annotated[str, Meta(description="What fails with it.", examples=["nas"])] = "host:localhost"


class Bucket(msgspec.Struct, frozen=True, kw_only=True, tag_field="type", tag="s3", forbid_unknown_fields=True):
    """A bucket."""

    bucket: Annotated[str, Meta(description="Its name.", examples=["backups"], min_length=3, max_length=63)]
    region: Annotated[Text | None, Meta(description="Its region.", examples=["eu-west-1"])] = None
    key: Annotated[Secret | None, Meta(description="Its key.", examples=["${S3_KEY}"])] = None
    domain: Annotated[str | None, Meta(description="What fails with it.", examples=["aws"])] = None
    object_lock: Annotated[str | None, Meta(description="How it is locked.", examples=["governance"])] = None
    append_only: Annotated[bool, Meta(description="Nothing is deleted there.", examples=[True])] = False


class Server(msgspec.Struct, frozen=True, kw_only=True, tag_field="provider", tag="postgres", forbid_unknown_fields=True):
    """A server."""

    url: Annotated[Secret, Meta(description="Its url.", examples=["${DATABASE_URL}"])]
    domain: Annotated[str | None, Meta(description="What fails with it.", examples=["rack-1"])] = None


class Hosted(msgspec.Struct, frozen=True, kw_only=True, tag_field="provider", tag="hosted", forbid_unknown_fields=True):
    """A second provider, so that there is something to choose from."""

    project: Annotated[str, Meta(description="Its project.", examples=["hotel"], pattern="^[a-z]+$")]

    @property
    def history_site(self) -> str:
        """It keeps a history."""
        return self.project


class Anywhere(msgspec.Struct, frozen=True, kw_only=True, tag_field="type", tag="embedded", forbid_unknown_fields=True):
    """A scratch server."""

    folder: Annotated[str | None, Meta(description="Its folder.", examples=["/srv/scratch"])] = None


def _never(**_: object) -> None:
    raise AssertionError("a policy connects to nothing")


KINDS = Kinds(
    targets=(Kind(type="local", settings=Folder, connect=_never), Kind(type="s3", settings=Bucket, connect=_never)),
    providers=(Kind(type="postgres", settings=Server, connect=_never), Kind(type="hosted", settings=Hosted, connect=_never)),
    scratches=(Kind(type="embedded", settings=Anywhere, connect=_never),),
)
FILE = Path("backup-policy.yaml")

GOOD = """\
version: 1
metadata: {name: agente-hotel, owner: backend-ops}
targets:
  primary: {type: s3, bucket: backups, key: "${S3_KEY}", region: eu-west-1, object_lock: governance}
  disk: {type: local, path: ./.backups}
defaults:
  timezone: Europe/Madrid
  encryption: none
databases:
  hotel:
    home: disk
    source: {provider: postgres, url: "${DATABASE_URL}"}
    objectives: {rpo: 26h, disaster: {rpo: 2d}}
    dumps:
      schedule: "0 2 * * *"
      targets: [primary, disk]
      compression: {level: 3, threads: 2}
      retention: {keep_last: 3, keep_within: 1y6mo, grace: 3d}
"""


def loaded(text: str) -> Policy:
    """The policy that the text says."""
    return load(text.encode(), KINDS, path=FILE)


def faults(text: str | bytes) -> tuple[Finding, ...]:
    """What is wrong with the text; none if it loads."""
    try:
        load(text if isinstance(text, bytes) else text.encode(), KINDS, path=FILE)
    except BadPolicy as error:
        return error.findings
    return ()


def told(finding: Finding) -> str:
    """A finding in one line, as a command prints it."""
    return f"{finding.where}  {finding.what}" + (f"; {finding.cure}" if finding.cure else "")
