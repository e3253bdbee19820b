"""Stop reporting a database or a target that left the policy. Deletes nothing: its backups stay where they are.

examples:
  reconcile --plan                  names what was left behind
  reconcile forget hotel_old
"""

import argparse

from reconciler.backups.register import forget
from reconciler.cli.by_name import do_one
from reconciler.cli.fitting import ONE_FORMAT
from reconciler.cli.frame import Call
from reconciler.cli.session import Session, open_session
from reconciler.connect import open_target
from reconciler.duties.adopting import ForgetTarget
from reconciler.errors import Refused
from reconciler.planning.plan import Shown, Step
from reconciler.world.facts import Observation

FITS = (ONE_FORMAT,)


def register(parser: argparse.ArgumentParser) -> None:
    """Its options."""
    parser.add_argument("name", metavar="NAME", help="the database or target, as the policy called it")


def run(call: Call) -> int:
    """What is still in the policy is not forgotten."""
    name, session = call.arguments.name, open_session(call)
    if name in session.policy.databases:
        raise Refused(f"{name} is a database of the policy", cure="remove it there first")
    forgotten = [
        f"{name} is no longer reported on {target}" for target in session.policy.targets if _forgot(session, target, name)
    ]
    codes = [_forget_target(call, session, name)]
    for line in forgotten:
        call.answer(f"✓ {line}; what lies there is untouched")
    if not forgotten and codes == [None]:
        used = [want.name for want in session.databases if name in want.dumps.targets]
        if used:
            raise Refused(f"{name} is a target of {', '.join(used)}", cure="remove it from dumps.targets there first")
        raise Refused(f"nothing called {name} was left behind", cure="`reconcile --plan` names what was")
    return max(code or 0 for code in codes)


def _forgot(session: Session, target: str, name: str) -> bool:
    return forget(open_target(session.policy, target, session.means, writable=True)[0], name)


def _forget_target(call: Call, session: Session, name: str) -> int | None:
    """In the records of each database that has it no more; None where none mentions it."""
    worst: int | None = None
    for want in session.databases:

        def ask(have: Observation) -> Step:
            if name in have.catalogues:
                raise Refused(f"{name} is a target of {have.database}")
            where = [on for on, seen in have.known().items() if seen.repository and name in seen.repository.targets]
            if not where:
                raise Refused(f"{have.database} never had a target {name}")
            action = ForgetTarget(database=have.database, forgotten=name, targets=tuple(sorted(where)))
            return Step(action=action, shown=Shown(does="forget", to=name))

        try:
            code = do_one(call, session, want, ask)
        except Refused:
            continue
        worst = max(worst or 0, code)
    return worst
