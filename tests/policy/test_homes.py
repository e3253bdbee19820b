"""Several databases of one project: each reads what is recorded of its window on the homes of all of them."""

from pathlib import Path
from threading import Event

from reconciler.connect import KINDS, Means, connect
from reconciler.policy import load
from reconciler.policy.redaction import Redactor
from reconciler.policy.secret import Surroundings
from reconciler.world.cache import FileCache
from reconciler.world.clock import SystemClock, token
from reconciler.world.pool import InlinePool
from reconciler.world.process import SystemProcess

SOURCE = "{{provider: neon, project: {project}, branch: main, database: {name}, role: owner, api_key: '${{KEY}}'}}"
DATABASE = "  {name}:\n    source: {source}\n    encryption: none\n    dumps: {{schedule: '0 2 * * *', targets: [{target}]}}\n"
HEAD = """version: 1
metadata: {name: hotels, owner: nobody}
targets: {one: {type: local, path: ./one}, other: {type: local, path: ./other}, third: {type: local, path: ./third}}
databases:
"""


def test_the_homes_of_a_project(tmp_path: Path) -> None:
    """Those of another project are none of its business, and of others nothing can be written to."""
    rows = [("hotel", "quiet", "one"), ("annex", "quiet", "other"), ("bar", "loud", "third")]
    databases = (
        DATABASE.format(name=name, source=SOURCE.format(project=project, name=name), target=target)
        for name, project, target in rows
    )
    policy = load((HEAD + "".join(databases)).encode(), KINDS, path=Path("backup-policy.yaml"))
    means = Means(
        surroundings=Surroundings(base=tmp_path, environ={"KEY": "napi_abc"}, redactor=Redactor()), clock=SystemClock(),
        process=SystemProcess(), pool=InlinePool(), cache=FileCache(tmp_path / "cache"), stop=Event(), tell=lambda _: None,
        token=token,
    )  # fmt: skip

    worlds = {name: connect(policy, policy.databases[name], means, writable=True) for name, *_ in rows}

    assert {"hotel": ["one", "other"], "annex": ["one", "other"], "bar": ["third"]} == {
        name: sorted(world.homes) for name, world in worlds.items()
    }
    assert worlds["hotel"].homes["one"] is worlds["hotel"].targets["one"]
    assert list(worlds["hotel"].targets) == ["one"]
