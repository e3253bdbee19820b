"""What the sandbox itself asks of its running Neon: beside the published API, and out of reach of ordered faults."""

from http.client import HTTPConnection, HTTPException
from pathlib import Path
from typing import TypeVar

import msgspec

from reconciler.errors import Unreachable
from reconciler.sandbox.neon.faults import Fault
from reconciler.sandbox.neon.orders import FAULTS, HOST, Orders
from reconciler.sandbox.places import place

T = TypeVar("T")
_SECONDS = 5


class Ordered(msgspec.Struct, frozen=True, kw_only=True):
    """The faults still to come."""

    faults: tuple[Fault, ...]


def order_fault(folder: Path, fault: Fault | None) -> Ordered:
    """Order one; None: none comes any more. What is still to come then. Raises Unreachable."""
    return ask(place(folder.absolute()), "POST" if fault else "DELETE", FAULTS, Ordered, fault)


def orders_in(home: Path) -> Orders | None:
    """What the server in that place was told; None if there never was one."""
    try:
        return msgspec.json.decode((home / "orders.json").read_bytes(), type=Orders)
    except (FileNotFoundError, msgspec.DecodeError):
        return None


def ask(home: Path, method: str, path: str, kind: type[T], body: object = None) -> T:
    """The server's answer. Raises Unreachable."""
    cure = "start it with `reconcile sandbox up`"
    if (orders := orders_in(home)) is None:
        raise Unreachable("this sandbox has no Neon", cure=cure)
    connection = HTTPConnection(HOST, orders.port, timeout=_SECONDS)
    try:
        headers = {"Authorization": f"Bearer {orders.key}"}
        connection.request(method, path, body=msgspec.json.encode(body) if body else None, headers=headers)
        return msgspec.json.decode(connection.getresponse().read(), type=kind)
    except (OSError, HTTPException, msgspec.DecodeError) as error:
        raise Unreachable(f"the sandbox's Neon does not answer: {error}", cure=cure) from error
    finally:
        connection.close()
