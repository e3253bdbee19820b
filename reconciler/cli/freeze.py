"""Stop every deletion of a database, until `reconcile unfreeze NAME`: while somebody looks at what went wrong.

examples:
  reconcile freeze hotel --why "rows are missing since Monday"
  reconcile freeze hotel --why "audit" --until 2026-12-31
"""

import argparse

from reconciler.cli.backups_keep import reason, until
from reconciler.cli.by_name import do_one, whoever
from reconciler.cli.fitting import NAMED
from reconciler.cli.frame import Call
from reconciler.cli.session import open_session
from reconciler.duties.keeping import FreezeDeletions
from reconciler.planning.plan import Shown, Step

FITS = (NAMED,)


def register(parser: argparse.ArgumentParser) -> None:
    """Its options."""
    parser.add_argument("name", metavar="NAME", help="the database, as the policy calls it")
    parser.add_argument("--why", metavar="TEXT", required=True, help="said by every plan meanwhile")
    parser.add_argument("--until", metavar="DATE", type=until, help="when it ends by itself")


def run(call: Call) -> int:
    """Dumps and copies go on."""
    why = reason(call, "a freeze")
    session = open_session(call)
    want = session.database(call.arguments.name)
    action = FreezeDeletions(database=want.name, why=why, who=whoever(), until=call.arguments.until)
    return do_one(call, session, want, lambda _: Step(action=action, shown=Shown(does="freeze deletions")))
