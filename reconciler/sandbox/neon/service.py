"""The sandbox's Neon as a process: started, found again, ended.

neon = start_neon(folder, with_hotel=True)
httpx.get(f"{neon.api_host}/projects", headers={"Authorization": f"Bearer {neon.api_key}"})
remove_neon(folder)                                    # or stop_neon(folder), which keeps the data
"""

import shutil
import signal
import sys
from pathlib import Path
from typing import Final

import msgspec

from reconciler.errors import Unreachable
from reconciler.sandbox import ports, process
from reconciler.sandbox.files import write_private
from reconciler.sandbox.neon.asking import ask, orders_in
from reconciler.sandbox.neon.orders import HOST, STANDING, Orders, Standing
from reconciler.sandbox.patience import comes_true, wait_for
from reconciler.sandbox.places import made, place
from reconciler.sandbox.process import Process
from reconciler.sandbox.serving import end_server, environment
from reconciler.world.clock import token

_MODULE: Final = "reconciler.sandbox.neon.server"
_SOURCES: Final = Path(__file__).resolve().parents[3]
_READY_SECONDS = 120.0
_END = ((signal.SIGTERM, 20.0), (signal.SIGKILL, 5.0))


class Neon(msgspec.Struct, frozen=True, kw_only=True):
    """A running one, and the key of its one account."""

    folder: Path
    api_host: str
    api_key: str
    project_id: str
    main_url: str
    """The main branch's database, as its owner."""
    process: Process

    def __repr__(self) -> str:
        return f"Neon(folder={str(self.folder)!r}, api_host={self.api_host!r}, pid={self.process.pid})"


def start_neon(folder: Path, *, with_hotel: bool, plan: str = "scale", log: Path | None = None) -> Neon:
    """Make and start one in `folder`, or return the one that runs there; its main branch is ready when this returns.

    Repairs what a `kill -9` of any of its processes left. One caller at a time per folder. Raises Refused, Unreachable.
    """
    folder = folder.absolute()
    home = made(folder)
    log = log or home / "log"
    if not _servers(home):
        _give_orders(home, with_hotel=with_hotel, plan=plan)
        process.start([sys.executable, "-m", _MODULE, str(home)], log=log, environment=_environment())

    def look() -> Neon | None:
        if not _servers(home):
            raise Unreachable("the sandbox's Neon ended while starting", cure=f"read {log}")
        stands = _standing(home)
        if stands and stands.failed:
            raise Unreachable(f"the sandbox's Neon could not make its branch: {stands.failed}", cure="purge it, and start anew")
        return running_neon(folder) if stands and stands.is_made else None

    return wait_for(look, seconds=_READY_SECONDS, what="the sandbox's Neon", cure=f"read {log}")


def running_neon(folder: Path) -> Neon | None:
    """The one that runs in `folder` and answers; None if there is none."""
    home = place(folder.absolute())
    stands, orders, servers = _standing(home), orders_in(home), _servers(home)
    if stands is None or orders is None or not servers:
        return None
    return Neon(
        folder=folder,
        api_host=f"http://{HOST}:{orders.port}/api/v2",
        api_key=orders.key,
        project_id=stands.project_id,
        main_url=stands.main_url,
        process=servers[0],
    )


def stop_neon(folder: Path) -> bool:
    """End it and all its computes, keeping the data; says whether any ran. Gone when it returns."""
    home = place(folder.absolute())
    servers = _servers(home)
    process.end(servers, signals=_END)
    timelines = home / "timelines"
    computes = [end_server(timeline / "data") for timeline in (sorted(timelines.iterdir()) if timelines.is_dir() else ())]
    return bool(servers) or any(computes)


def remove_neon(folder: Path) -> None:
    """End it and delete all of it. Nothing there is fine."""
    stop_neon(folder)
    home = place(folder.absolute())
    shutil.rmtree(home, ignore_errors=not home.is_dir())
    if folder.is_symlink():
        folder.unlink()


def _servers(home: Path) -> tuple[Process, ...]:
    return process.find_module(_MODULE, str(home))


def _give_orders(home: Path, *, with_hotel: bool, plan: str) -> None:
    last = orders_in(home)
    port = (
        last.port
        if last and comes_true(lambda: ports.is_free(last.port), seconds=1)
        else ports.choose(1, home, purpose="neon")[0]
    )
    orders = Orders(key=last.key if last else f"napi_{token(24)}", port=port, with_hotel=with_hotel, plan=plan)
    write_private(home / "orders.json", msgspec.json.encode(orders).decode())


def _environment() -> dict[str, str]:
    """Nothing of the caller's; the module is the one beside this file."""
    return {**environment(), "PYTHONPATH": str(_SOURCES)}


def _standing(home: Path) -> Standing | None:
    try:
        return ask(home, "GET", STANDING, Standing)
    except Unreachable:
        return None
