"""Take over the backups under a database's name for the source that the policy names now: after an upgrade or a move.

Until then nothing there counts, is pruned or written, since it may be another system's (a staging policy made by copying
production's, say). Look at what the plan says before you adopt.

examples:
  reconcile --plan                  says whose backups they are
  reconcile adopt hotel
"""

import argparse

from reconciler.cli.by_name import do_one
from reconciler.cli.fitting import NAMED
from reconciler.cli.frame import Call
from reconciler.cli.session import open_session
from reconciler.duties.adopting import plan_adopt

FITS = (NAMED,)


def register(parser: argparse.ArgumentParser) -> None:
    """Its options."""
    parser.add_argument("name", metavar="NAME", help="the database, as the policy calls it")


def run(call: Call) -> int:
    """As a whole: on every target, or nowhere."""
    session = open_session(call)
    want = session.database(call.arguments.name)
    return do_one(call, session, want, lambda have: plan_adopt(have, session.means.clock.now()), whosever=True)
