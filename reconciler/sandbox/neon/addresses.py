"""New endpoints: an id, and a port on loopback that stays theirs."""

from reconciler.sandbox import ports
from reconciler.sandbox.neon import asked
from reconciler.sandbox.neon.book import new_id, now
from reconciler.sandbox.neon.engine import Engine
from reconciler.sandbox.neon.records import Endpoint


def new_endpoint(engine: Engine, branch: str, wanted: asked.EndpointOptions) -> Endpoint:
    """Not remembered yet, and its door not open."""
    id_, born = new_id("ep-"), now()
    used = {endpoint.port for endpoint in engine.book.state.endpoints.values()}
    free = ports.choose(len(used) + 1, engine.clusters.home / id_, purpose="endpoint")
    return Endpoint(
        id=id_,
        branch_id=branch,
        port=next(port for port in free if port not in used),
        created_at=born,
        updated_at=born,
        name=wanted.name,
        suspend_timeout_seconds=wanted.suspend_timeout_seconds,
        min_cu=wanted.autoscaling_limit_min_cu,
        max_cu=wanted.autoscaling_limit_max_cu,
        disabled=wanted.disabled,
    )
