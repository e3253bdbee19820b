"""Let deletions of a database go on. What had frozen them (a dump that shrank or lost rows, a verification that failed) is
acknowledged.

examples:
  reconcile unfreeze hotel
"""

import argparse

from reconciler.cli.by_name import do_one, whoever
from reconciler.cli.fitting import NAMED
from reconciler.cli.frame import Call
from reconciler.cli.session import open_session
from reconciler.duties.keeping import LiftFreeze
from reconciler.errors import Refused
from reconciler.planning.alarms import alarming
from reconciler.planning.plan import Shown, Step
from reconciler.world.facts import Observation

FITS = (NAMED,)


def register(parser: argparse.ArgumentParser) -> None:
    """Its options."""
    parser.add_argument("name", metavar="NAME", help="the database, as the policy calls it")


def run(call: Call) -> int:
    """The next turn deletes again what is no longer kept."""
    session = open_session(call)
    want = session.database(call.arguments.name)

    def ask(have: Observation) -> Step:
        found = tuple(dict.fromkeys(name for name, _ in alarming(have, session.means.clock.now())))
        if not have.unknown() and not found and not any(catalogue.frozen for catalogue in have.known().values()):
            raise Refused(f"{want.name} is not frozen")
        action = LiftFreeze(database=want.name, who=whoever(), acknowledged=found)
        return Step(action=action, shown=Shown(does="lift the freeze"))

    return do_one(call, session, want, ask)
