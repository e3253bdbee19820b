"""A folder on this machine, or on what is mounted there, as a target: what a policy says of it, and how that is resolved."""

import os
from pathlib import Path
from threading import Event
from typing import Annotated

import msgspec
from msgspec import Meta

from reconciler.errors import Refused
from reconciler.policy.kinds import Kind
from reconciler.policy.secret import Surroundings
from reconciler.targets.local_target import LocalTarget
from reconciler.world.ports import Clock


class LocalSettings(msgspec.Struct, frozen=True, kw_only=True, tag_field="type", tag="local", forbid_unknown_fields=True):
    """A folder as a target."""

    path: Annotated[
        str,
        Meta(
            min_length=1,
            description="The folder for backups, relative to the policy file; made on the first write.",
            examples=["./.backups"],
        ),
    ]
    mount: Annotated[
        Annotated[str, Meta(min_length=1)] | None,
        Meta(
            description="What must be mounted for the folder to be the right one; where it is not, the target is unknown.",
            examples=["/mnt/nas"],
        ),
    ] = None
    domain: Annotated[
        Annotated[str, Meta(min_length=1)] | None,
        Meta(description="What fails together with this folder; default: this machine.", examples=["nas-cellar"]),
    ] = None
    append_only: Annotated[
        bool,
        Meta(description="Never delete anything there: backups come and stay, whatever the retention says.", examples=[True]),
    ] = False


def connect(
    name: str,
    settings: LocalSettings,
    *,
    surroundings: Surroundings,
    clock: Clock,
    stop: Event,
) -> LocalTarget:
    """The target that the settings describe. Touches nothing yet. Raises Refused for a `mount` that says nothing of `path`."""
    root = folder_of(settings, surroundings.base)
    mount = _mount_of(settings, surroundings.base, root) if settings.mount else None
    return LocalTarget(name, root, clock=clock, domain=settings.domain or "host:localhost", mount=mount)


def _mount_of(settings: LocalSettings, base: Path, root: Path) -> Path:
    mount = Path(os.path.realpath(base / Path(settings.mount or "").expanduser()))
    if mount == Path(mount.anchor) or not root.is_relative_to(mount):
        what = f"its folder {root} does not lie below a mount of its own: mount is {mount}"
        raise Refused(what, cure="let `mount` name the mount point above `path`, or leave it out")
    return mount


def folder_of(settings: LocalSettings, base: Path) -> Path:
    """The folder itself; `base` is that of the policy file."""
    return Path(os.path.realpath(base / Path(settings.path).expanduser()))


def site(settings: LocalSettings, base: Path) -> str:
    """The folder, links resolved."""
    return f"local:{folder_of(settings, base)}"


KIND = Kind(type="local", settings=LocalSettings, connect=connect, site=site)
