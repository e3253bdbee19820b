"""The process that is the sandbox's Neon: `python -m reconciler.sandbox.neon.server FOLDER`.

It reads what it needs from the folder and writes where it listens; its end, by whatever signal, leaves the computes as they are.
"""

import signal
import sys
from pathlib import Path
from types import FrameType

import msgspec

from reconciler.errors import ReconcilerError
from reconciler.sandbox import ports
from reconciler.sandbox.binaries import postgres_binaries
from reconciler.sandbox.neon.api import application
from reconciler.sandbox.neon.book import Book, new_id, now, opened
from reconciler.sandbox.neon.clusters import Clusters
from reconciler.sandbox.neon.doors import OpenDoors, Way
from reconciler.sandbox.neon.endpoints import wake
from reconciler.sandbox.neon.engine import Engine
from reconciler.sandbox.neon.faults import Faults
from reconciler.sandbox.neon.garbage import collect
from reconciler.sandbox.neon.greeting import Greeting
from reconciler.sandbox.neon.janitor import Janitor
from reconciler.sandbox.neon.mishaps import Mishaps
from reconciler.sandbox.neon.orders import DATABASE, HOST, PROJECT, ROLE, Orders
from reconciler.sandbox.neon.past import visit
from reconciler.sandbox.neon.records import Branch, Database, Endpoint, Project, Role, State
from reconciler.sandbox.neon.work import MakeRoot, StartCompute
from reconciler.sandbox.neon.worker import Worker
from reconciler.world.account import lent_account
from reconciler.world.clock import token
from reconciler.world.programs import runnable


def main(folder: Path) -> None:
    """Serve until told to end."""
    orders = msgspec.json.decode((folder / "orders.json").read_bytes(), type=Orders)
    account = lent_account()
    clusters = Clusters(home=folder.resolve(), programs=runnable(postgres_binaries(), account), account=account)
    book = opened(folder / "state.json", lambda: _first_state(folder, orders))
    holder: list[Engine] = []
    doors = OpenDoors(lambda endpoint, greeting: _wake(holder[0], endpoint, greeting))
    engine = Engine(clusters=clusters, book=book, doors=doors, faults=Faults())
    holder.append(engine)
    _resume(engine)
    worker, janitor = Worker(engine), Janitor(engine)
    worker.start()
    janitor.start()
    try:
        _serve(engine, orders)
    finally:
        janitor.stop()
        worker.stop()
        doors.stop()


def _pass_over(number: int, frame: FrameType | None) -> None:
    pass


def _serve(engine: Engine, orders: Orders) -> None:
    import uvicorn

    mishaps = Mishaps(application(engine, orders.key), engine.faults)
    uvicorn.Server(
        uvicorn.Config(
            mishaps,
            host=HOST,
            port=orders.port,
            http=mishaps.protocol(),
            ws="none",
            lifespan="off",
            log_level="warning",
            timeout_graceful_shutdown=2,
        )
    ).run()


def _resume(engine: Engine) -> None:
    """After a stop or a kill: what is on disk and in the book is brought together, and all doors are open."""
    collect(engine)
    for endpoint in list(engine.book.state.endpoints.values()):
        branch = engine.book.state.branches.get(endpoint.branch_id)
        if branch is None or branch.deletion:
            continue
        runs = engine.clusters.port(branch.timeline) is not None
        if (endpoint.state == "active") != runs:
            engine.book.edit(endpoint, state="active" if runs else "idle")
        engine.doors.open(endpoint.id, endpoint.port)


def _wake(engine: Engine, endpoint: str, greeting: Greeting) -> Way:
    if greeting.is_visit_to_the_past:
        return Way(visit(engine, endpoint, greeting))
    port, book = wake(engine, endpoint), engine.book
    own = {"project_id": book.state.project.id, "branch_id": book.endpoint(endpoint).branch_id, "endpoint_id": endpoint}
    return Way(port, {f"neon.{name}": value for name, value in own.items()})


def _first_state(folder: Path, orders: Orders) -> State:
    """A project with one branch, one compute, one role and one database, to be made."""
    born = now()
    branch = Branch(
        id=new_id("br-"),
        name="main",
        timeline=f"tl-{token(8)}",
        created_at=born,
        updated_at=born,
        state_changed_at=born,
        roles=(Role(name=ROLE, password=token(12), created_at=born, updated_at=born),),
        databases=(Database(id=1, name=DATABASE, owner=ROLE, created_at=born, updated_at=born),),
    )
    endpoint = Endpoint(
        id=new_id("ep-"),
        branch_id=branch.id,
        port=ports.choose(1, folder, purpose="endpoint")[0],
        created_at=born,
        updated_at=born,
    )
    project = Project(
        id=PROJECT,
        name="hotel",
        history_retention_seconds=86400,
        created_at=born,
        updated_at=born,
        default_branch=branch.id,
        reaches_back_to=born,
        plan=orders.plan,
    )
    state = State(project=project, branches={branch.id: branch}, endpoints={endpoint.id: endpoint})
    book = Book(folder / "state.json", state)
    book.schedule(
        ("create_timeline", MakeRoot(branch=branch.id, with_hotel=orders.with_hotel)),
        ("start_compute", StartCompute(endpoint=endpoint.id)),
        branch=branch.id,
        endpoint=endpoint.id,
    )
    return book.state


if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    # uvicorn raises it again, once it is through: then the operation under way is still to be finished.
    signal.signal(signal.SIGTERM, _pass_over)
    try:
        main(Path(sys.argv[1]))
    except ReconcilerError as error:
        sys.exit(f"sandbox: {error}")
