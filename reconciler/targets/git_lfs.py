"""A git repository with large files (LFS) as a target: what a policy says of it, and how that is resolved."""

from pathlib import Path
from threading import Event
from typing import TYPE_CHECKING, Annotated, ClassVar
from urllib.parse import urlsplit

import msgspec
from msgspec import Meta

from reconciler.errors import Refused
from reconciler.policy.folder import Folder
from reconciler.policy.kinds import Kind
from reconciler.policy.secret import Secret, Surroundings, Text
from reconciler.policy.units import ByteSize
from reconciler.world.endpoint import domain_of
from reconciler.world.ports import Clock

if TYPE_CHECKING:
    from reconciler.targets.git_lfs_target import GitLfsTarget


class GitLfsSettings(msgspec.Struct, frozen=True, kw_only=True, tag_field="type", tag="git_lfs", forbid_unknown_fields=True):
    """A git repository with large files (LFS); takes the programs git and git-lfs."""

    costly_home: ClassVar[str] = "every renewal of a lease would be a commit, and stay in the history"

    path: Annotated[
        str,
        Meta(
            min_length=1,
            description="The folder of the bare repository, relative to the policy file; made on the first use.",
            examples=["./backups.git"],
        ),
    ]
    branch: Annotated[
        str,
        Meta(pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]{0,99}$", description="The branch that holds the backups.", examples=["backups"]),
    ] = "main"
    prefix: Annotated[
        Folder,
        Meta(
            description="The folder in the repository; none: its top.", examples=["postgres/"], extra_json_schema={"default": ""}
        ),
    ] = msgspec.field(default_factory=Folder)
    remote: Annotated[
        Text | None,
        Meta(
            description="The repository to push to: https://…, ssh://…, HOST:PATH, or a folder relative to the policy file.",
            examples=["https://git.example.com/ops/backups.git"],
        ),
    ] = None
    push: Annotated[
        bool,
        Meta(
            description="Push each commit to `remote`: a write is done when it is there. Without, pushing is left to you.",
            examples=[True],
        ),
    ] = False
    user: Annotated[
        Annotated[str, Meta(min_length=1)] | None,
        Meta(description="Who pushes over https, where `token` needs a name.", examples=["backup-bot"]),
    ] = None
    token: Annotated[
        Secret | None, Meta(description="What lets us push over https; ssh takes this user's keys.", examples=["${GIT_TOKEN}"])
    ] = None
    max_object: Annotated[
        ByteSize,
        Meta(
            description="The largest object that is taken; hosts have a limit of their own, and a push that meets it comes late.",
            examples=["2GiB"],
            extra_json_schema={"default": "2GiB"},
        ),
    ] = msgspec.field(default_factory=lambda: ByteSize(2 << 30))
    domain: Annotated[
        Annotated[str, Meta(min_length=1)] | None,
        Meta(
            description="What fails together with it; default: the remote's host where it is pushed there, else this machine.",
            examples=["github"],
        ),
    ] = None
    append_only: Annotated[
        bool,
        Meta(description="Never delete anything there: backups come and stay, whatever the retention says.", examples=[True]),
    ] = False


def connect(name: str, settings: GitLfsSettings, *, surroundings: Surroundings, clock: Clock, stop: Event) -> "GitLfsTarget":
    """The target that the settings describe. Touches nothing yet. Raises Refused when a reference leads nowhere."""
    from reconciler.targets.git_lfs_repository import Repository
    from reconciler.targets.git_lfs_target import GitLfsTarget
    from reconciler.targets.git_program import Login

    where = f"targets.{name}"
    if settings.push and settings.remote is None:
        raise Refused(f"{where}: `push` needs a `remote`", cure="say where to push to, or leave `push` out")
    written = settings.remote.reveal(surroundings, field=f"{where}.remote") if settings.remote else None
    remote, host = _remote(written, surroundings.base, f"{where}.remote") if written else (None, None)
    token = settings.token.reveal(surroundings, field=f"{where}.token").expose() if settings.token else None
    if token is not None and not (remote or "").startswith("https://"):
        raise Refused(f"{where}.token is for a remote over https", cure="write the remote as https://…, or remove `token`")
    login = Login(user=settings.user or "git", token=token) if token else None
    root = _folder(settings.path, surroundings.base)
    pushed = remote if settings.push else None
    repository = Repository(
        name, root, branch=settings.branch, remote=pushed, login=login, environ=surroundings.environ, clock=clock, stop=stop
    )
    domain = settings.domain or (domain_of(host, "git") if pushed and host else "host:localhost")
    return GitLfsTarget(repository, prefix=settings.prefix, max_object=settings.max_object, domain=domain, clock=clock)


def site(settings: GitLfsSettings, base: Path) -> str:
    """The remote where it is pushed, else the folder: branches of one repository are lost together."""
    from reconciler.targets.git_program import folder_of

    if not (settings.push and settings.remote):
        return f"local:{_folder(settings.path, base)}"
    written = str(settings.remote)
    folder = folder_of(written) or (Path(written) if "://" not in written and ":" not in written.partition("/")[0] else None)
    if folder is None or "${" in written:
        return f"git:{written.removesuffix('.git').rstrip('/').lower()}"
    return f"local:{_folder(str(folder), base)}"


KIND = Kind(type="git_lfs", settings=GitLfsSettings, connect=connect, site=site)


def _folder(written: str, base: Path) -> Path:
    return (base / Path(written).expanduser()).resolve()


def _remote(written: str, base: Path, field: str) -> tuple[str, str | None]:
    """The remote as git is given it, and its host; None for a folder. What is wrong is not shown: a URL may hold a password."""
    if "://" in written:
        try:
            parts = urlsplit(written)
            host, password = parts.hostname, parts.password
        except ValueError:
            host, password = None, None
        # Out of the handler, since that error quotes the URL and would be chained.
        if written.startswith("file://"):
            return written, None
        if not host or password is not None or not written.startswith(("https://", "ssh://")):
            cure = "write https://HOST/PATH, ssh://USER@HOST/PATH or a folder; a password goes into `token`"
            raise Refused(f"{field} is no place to push to", cure=cure)
        # It would be shown wherever the place is, and many a host takes a token for a name.
        if written.startswith("https://") and parts.username is not None:
            cure = "write https://HOST/PATH; a name goes into `user`, a password or token into `token`"
            raise Refused(f"{field} holds a name", cure=cure)
        return written, host
    # As git itself reads it: a colon before the first slash is of HOST:PATH.
    if ":" in written.partition("/")[0]:
        return written, written.partition(":")[0].rpartition("@")[2]
    return _folder(written, base).as_uri(), None
