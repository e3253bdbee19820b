"""Two lanes: what proves backups holds nobody up who keeps them."""

from datetime import datetime
from pathlib import Path

import pytest

from reconciler.backups.claim import read_claim
from reconciler.duties import DUTIES
from reconciler.duties.keeping import FreezeDeletions
from reconciler.errors import Corrupt
from reconciler.planning.plan import Action, Consent, Due, Duty, Shown, Step
from reconciler.policy.model import DatabasePolicy
from reconciler.turn import turn
from reconciler.world.events import Event, Waiting
from reconciler.world.facts import Observation
from reconciler.world.ports import World
from tests.backups.faking import MovedClock, catalogue, claim_text, make_world
from tests.building import HOUR, policy

WANT = policy("0 * * * *", ("primary",))
PROVE = "hotel/lease-prove.json"


class Proof(Action, frozen=True, kw_only=True, tag="a_proof"):
    """Takes long, and ends as it is told to."""

    effect = "create"

    good: bool = True

    def perform(self, world: World, want: DatabasePolicy) -> str:
        """Meanwhile another reconciler has its turn, an hour later."""
        clock = world.clock
        assert isinstance(clock, MovedClock)
        clock.move(HOUR)
        record, _ = read_claim(world.targets["primary"], PROVE)
        assert record is not None
        assert record.owner is not None
        done = turn(world, want, DUTIES, Consent()).outcomes
        assert [("take dump → primary", "done")] == [(outcome.does, outcome.result) for outcome in done]
        if not self.good:
            raise Corrupt("the copy is rotten")
        return "proven"


def proving(action: Proof) -> Duty:
    """Asks for it always."""
    step = Step(action=action, shown=Shown(does="prove"))

    def due(want: DatabasePolicy, have: Observation, now: datetime) -> Due:
        return Due(steps=(step,))

    return Duty(name="proving", lane="prove", due=due, actions=(Proof,))


def freezing(want: DatabasePolicy, have: Observation, now: datetime) -> Due:
    """Once there are two backups: the second came while it was found out that one is rotten."""
    if len(have.backups()) < 2:
        return Due()
    return Due(steps=(Step(action=FreezeDeletions(database="hotel", why="rot", who="us"), shown=Shown(does="freeze")),))


@pytest.fixture
def clock() -> MovedClock:
    return MovedClock()


def test_a_rehearsal_delays_no_dump(tmp_path: Path, clock: MovedClock) -> None:
    """While it runs, another reconciler takes the dump that became due."""
    world = make_world(tmp_path, clock, names=("primary",))
    done = turn(world, WANT, (*DUTIES, proving(Proof(database="hotel"))), Consent()).outcomes

    assert ["take dump → primary", "prove"] == [outcome.does for outcome in done]
    assert {"done"} == {outcome.result for outcome in done}
    assert 2 == len(catalogue(world).copies)


def test_of_two_rehearsals_one_waits_for_the_next_turn(tmp_path: Path, clock: MovedClock) -> None:
    """That another proves is no failure; what keeps was done before."""
    said: list[Event] = []
    world = make_world(tmp_path, clock, names=("primary",), tell=said.append)
    world.targets["primary"].write(PROVE, [claim_text(world.process.begin())])
    done = turn(world, WANT, (*DUTIES, proving(Proof(database="hotel"))), Consent()).outcomes

    assert ["take dump → primary"] == [outcome.does for outcome in done]
    assert any("nothing is verified now" in event.says for event in said if isinstance(event, Waiting))


def test_what_a_failed_proof_calls_for_is_done_at_once(tmp_path: Path, clock: MovedClock) -> None:
    """Deletions are frozen in the same turn."""
    world = make_world(tmp_path, clock, names=("primary",))
    guarding = Duty(name="guarding", lane="keep", due=freezing, actions=(FreezeDeletions,))
    done = turn(world, WANT, (*DUTIES, guarding, proving(Proof(database="hotel", good=False))), Consent()).outcomes

    assert [("prove", "failed"), ("freeze", "done")] == [(outcome.does, outcome.result) for outcome in done[1:]]
    assert "rot" in catalogue(world).frozen
