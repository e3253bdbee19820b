"""One S3 server (SeaweedFS) in a folder of its own.

server = start_server(folder)
make_bucket(server, "hotel-backups")
boto3.client("s3", endpoint_url=server.endpoint, aws_access_key_id=server.access_key_id, ...)
remove_server(folder)                                  # or stop_server(folder), which keeps the objects
"""

import os
import shutil
import signal
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Final, cast

import msgspec

from reconciler.errors import Unreachable
from reconciler.sandbox import ports, process
from reconciler.sandbox.binaries import weed_binary
from reconciler.sandbox.files import write_private
from reconciler.sandbox.patience import comes_true, wait_for
from reconciler.sandbox.process import Process
from reconciler.world.clock import token

if TYPE_CHECKING:
    from types_boto3_s3 import S3Client

REGION: Final = "us-east-1"
_READY_SECONDS = 60.0
_END = ((signal.SIGTERM, 3.0), (signal.SIGKILL, 5.0))
"""Asked kindly it takes 1 to 2 s (measured, 4.48), or waits for idle clients; what it acknowledged is in its files already."""
_SOCKETS = Path("/tmp")  # noqa: S108  # its choice, not ours
_PROBE = "sandbox-probe"
"""A bucket of our own: whether writes work is tried there."""


class Ports(msgspec.Struct, frozen=True, kw_only=True):
    """All that it listens on, each with its gRPC twin. The defaults are fixed numbers, which two servers would share."""

    master: int
    volume: int
    filer: int
    s3: int
    admin: int


class _Credential(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    access_key: str
    secret_key: str


class _Identity(msgspec.Struct, frozen=True, kw_only=True):
    name: str
    credentials: tuple[_Credential, ...]
    actions: tuple[str, ...]


class _Keys(msgspec.Struct, frozen=True, kw_only=True):
    """The server's own file of who may do what."""

    identities: tuple[_Identity, ...]


class Server(msgspec.Struct, frozen=True, kw_only=True):
    """A running server and the keys of its one account, which may do everything."""

    folder: Path
    ports: Ports
    access_key_id: str
    secret_access_key: str
    process: Process

    @property
    def endpoint(self) -> str:
        """The URL that clients are given."""
        return f"http://127.0.0.1:{self.ports.s3}"

    def __repr__(self) -> str:
        return f"Server(folder={str(self.folder)!r}, endpoint={self.endpoint!r}, pid={self.process.pid})"


def start_server(folder: Path, *, log: Path | None = None) -> Server:
    """Start a server in `folder`, or return the one that runs there already; it takes writes when this returns.

    Listens on 127.0.0.1 only, on the ports of last time unless somebody took one. Repairs what a `kill -9` left.
    One caller at a time per folder. Raises Refused, Unreachable.
    """
    folder = folder.absolute()
    data, log = folder / "data", log or folder / "log"
    for made in (folder, data):
        made.mkdir(mode=0o700, parents=True, exist_ok=True)
    if _remembered(folder) is None or not (folder / "keys.json").is_file():
        # A server whose files somebody deleted may still run: nobody could talk to it.
        stop_server(folder)
    credential = _credential(folder / "keys.json")
    if not process.find("weed", f"-dir={data}"):
        chosen = _ports(folder)
        process.start(_command(data, chosen, folder / "keys.json"), log=log, environment=_environment(folder), account=None)
    server = _running(folder, credential)
    _wait_until_writable(server, log)
    return server


def running_server(folder: Path) -> Server | None:
    """The server that runs in `folder` and answers; None if there is none."""
    folder = folder.absolute()
    try:
        keys = msgspec.json.decode((folder / "keys.json").read_bytes(), type=_Keys)
        server = _running(folder, keys.identities[0].credentials[0])
    except (OSError, msgspec.DecodeError, Unreachable):
        return None
    return server if ports.answers(server.ports.s3) else None


def stop_server(folder: Path) -> bool:
    """End the server in `folder`, keeping the objects; says whether one ran. Gone when it returns."""
    folder = folder.absolute()
    servers = process.find("weed", f"-dir={folder / 'data'}")
    process.end(servers, signals=_END)
    used = _remembered(folder)
    for port in msgspec.structs.astuple(used) if used else ():
        # It makes these itself, at a fixed place, and leaves them behind.
        for socket in (*_SOCKETS.glob(f"seaweedfs-*-{port}.sock"), *_SOCKETS.glob(f"seaweedfs-*-{port + ports.TWIN}.sock")):
            socket.unlink(missing_ok=True)
    return bool(servers)


def remove_server(folder: Path) -> None:
    """End the server in `folder` and delete its objects. Nothing there is fine."""
    stop_server(folder)
    shutil.rmtree(folder, ignore_errors=not folder.exists())


def make_bucket(server: Server, name: str) -> None:
    """See that the bucket is there; three letters at least. Raises Unreachable."""
    from botocore.exceptions import BotoCoreError, ClientError

    client = _client(server, seconds=10)
    try:
        client.create_bucket(Bucket=name)
    except client.exceptions.BucketAlreadyOwnedByYou:
        return
    except (BotoCoreError, ClientError) as error:
        raise Unreachable(
            f"{server.endpoint}: cannot make the bucket {name}: {error}", cure=f"read {server.folder / 'log'}"
        ) from error
    finally:
        client.close()


def _command(data: Path, chosen: Ports, keys: Path) -> Sequence[str]:
    # `mini` and not `server`: its parts start in order and it takes writes within 1 s; `server` needs 3 to 22 s (measured, 4.48).
    return [
        str(weed_binary()),
        "-logtostderr=true",
        "mini",
        f"-dir={data}",
        "-ip=127.0.0.1",
        "-ip.bind=127.0.0.1",
        f"-master.port={chosen.master}",
        f"-volume.port={chosen.volume}",
        f"-filer.port={chosen.filer}",
        f"-s3.port={chosen.s3}",
        f"-admin.port={chosen.admin}",
        "-admin.ui=false",
        "-webdav=false",
        "-master.telemetry=false",
        # Small volumes, and as many as the disk has room for: with too few, a write waits for ever.
        "-master.volumeSizeLimitMB=64",
        "-volume.max=0",
        "-volume.preStopSeconds=0",
        # Two more doors, open on fixed ports unless closed.
        "-s3.port.iceberg=0",
        "-s3.port.lance=0",
        "-s3.autoCreateBucket=false",
        f"-s3.config={keys}",
        # The one account may make others, each with a policy of its own: so rights are tried.
        "-s3.iam.readOnly=false",
    ]


def _environment(folder: Path) -> Mapping[str, str]:
    """Nothing of the caller's: its AWS_ variables would become another account, its WEED_ ones other settings."""
    return {"PATH": "/usr/bin:/bin", "HOME": str(folder), "TZ": "UTC"}


def _credential(keys: Path) -> _Credential:
    with suppress(FileNotFoundError, msgspec.DecodeError):
        return msgspec.json.decode(keys.read_bytes(), type=_Keys).identities[0].credentials[0]
    made = _Credential(access_key=token(10).upper(), secret_key=token(20))
    identity = _Identity(name="sandbox", credentials=(made,), actions=("Admin", "Read", "Write", "List", "Tagging"))
    write_private(keys, msgspec.json.encode(_Keys(identities=(identity,))).decode())
    return made


def _remembered(folder: Path) -> Ports | None:
    try:
        return msgspec.json.decode((folder / "ports.json").read_bytes(), type=Ports)
    except (FileNotFoundError, msgspec.DecodeError):
        return None


def _ports(folder: Path) -> Ports:
    last = _remembered(folder)
    # A killed server holds its ports for an instant longer than its name.
    if last and comes_true(lambda: ports.are_free(msgspec.structs.astuple(last), with_twin=True), seconds=1):
        return last
    names = Ports.__struct_fields__
    chosen = Ports(**dict(zip(names, ports.choose(len(names), folder, purpose="s3", with_twin=True), strict=True)))
    write_private(folder / "ports.json", msgspec.json.encode(chosen).decode())
    return chosen


def _running(folder: Path, credential: _Credential) -> Server:
    servers = process.find("weed", f"-dir={folder / 'data'}")
    used = _remembered(folder)
    if not servers or used is None:
        raise Unreachable(f"no S3 server runs in {folder}", cure="start it again")
    return Server(
        folder=folder,
        ports=used,
        access_key_id=credential.access_key,
        secret_access_key=credential.secret_key,
        process=servers[0],
    )


def _wait_until_writable(server: Server, log: Path) -> None:
    """Until an object was put, read and deleted: it answers seconds before it can store anything."""
    from botocore.exceptions import BotoCoreError, ClientError

    client = _client(server, seconds=10)

    def look() -> bool:
        if not process.is_alive(server.process):
            raise Unreachable("the S3 server ended while starting", cure=f"read {log}")
        if not ports.answers(server.ports.s3):
            return False
        try:
            _try_a_write(client)
        except (BotoCoreError, ClientError):
            return False
        return True

    try:
        wait_for(look, seconds=_READY_SECONDS, what="the S3 server to take a write", cure=f"read {log}")
    finally:
        client.close()


def _try_a_write(client: "S3Client") -> None:
    with suppress(client.exceptions.BucketAlreadyOwnedByYou):
        client.create_bucket(Bucket=_PROBE)
    client.put_object(Bucket=_PROBE, Key="probe", Body=b"probe")
    client.get_object(Bucket=_PROBE, Key="probe")["Body"].read()
    client.delete_object(Bucket=_PROBE, Key="probe")


def _client(server: Server, *, seconds: int) -> "S3Client":
    import botocore.session
    from botocore.config import Config

    # The caller's profile, which may not even exist, and their files are none of the sandbox's.
    nobodys = {"profile": (None, None, None, None), "config_file": (None, None, os.devnull, None)}
    session = botocore.session.Session(session_vars=nobodys)
    config = Config(
        connect_timeout=seconds,
        read_timeout=seconds,
        retries={"total_max_attempts": 1},
        s3={"addressing_style": "path"},
        proxies={},
    )
    client = session.create_client(
        "s3",
        region_name=REGION,
        endpoint_url=server.endpoint,
        aws_access_key_id=server.access_key_id,
        aws_secret_access_key=server.secret_access_key,
        config=config,
    )
    return cast("S3Client", client)
