"""Holds every change and every look against the rules, and writes down what happened."""

from collections.abc import Iterator
from datetime import datetime, timedelta

from reconciler.apply import Applied
from reconciler.planning.plan import Due, Duty, Plan
from reconciler.policy.model import DatabasePolicy
from reconciler.simulation.change import Change
from reconciler.simulation.host import SimulatedProcess
from reconciler.simulation.kept import Keeper
from reconciler.simulation.ledger import Ledger, Turn
from reconciler.simulation.project import Project
from reconciler.simulation.rules import rules_of
from reconciler.simulation.store import Store
from reconciler.simulation.truth import SILENT, ClaimBrief, Folder, RepositoryBrief, Truth, read
from reconciler.world.facts import Catalogue, Copy, Known, Observation

LONGEST_LOOK = timedelta(seconds=4000)
"""A look that meets pauses takes so long; what is due by the clock may be judged by its beginning or its end."""


class Judge:
    """The witness of all stores."""

    def __init__(self, truth: Truth, ledger: Ledger) -> None:
        self._truth, self._ledger = truth, ledger
        self._kept: tuple[Project, Keeper] | None = None
        self._whole: dict[tuple[str, str], tuple[Folder, RepositoryBrief | None, datetime]] = {}
        """By store and id: what was whole at that instant."""

    def watch(self, project: Project, keeper: Keeper) -> None:
        """The provider keeps a history."""
        self._kept = project, keeper

    def writing(self, store: Store, key: str, content: bytes, by: SimulatedProcess | None, *, until: datetime | None) -> None:
        """Every rule, then what follows from it. What arrives late, when its writer's turn is over, is recorded only."""
        turn = self._ledger.turn_of(by) if by else None
        if turn is not None:
            self._hold(
                Change("write", store, key, content, version=None, until=until, turn=turn, truth=self._truth, ledger=self._ledger)
            )
        if by is not None:
            self._ledger.record(store, key, content, by)
        else:
            self._ledger.tamper(key)

    def removing(self, store: Store, key: str, version: str | None, by: SimulatedProcess | None) -> None:
        """Every rule."""
        turn = self._ledger.turn_of(by) if by else None
        if turn is not None:
            self._hold(
                Change("remove", store, key, b"", version=version, until=None, turn=turn, truth=self._truth, ledger=self._ledger)
            )
        if by is not None:
            self._ledger.record_removal(store, key)
        else:
            self._ledger.tamper(key)
            self._ledger.release(store, key)

    def _hold(self, change: Change) -> None:
        self._ledger.note(str(change))
        for rule in rules_of(change):
            for wrong in rule(change):
                self._ledger.breaks(rule.__name__, wrong)

    def eye(self, turn: Turn) -> Duty:
        """A duty that asks for nothing, and sees what its reconciler sees."""

        def due(want: DatabasePolicy, have: Observation, now: datetime) -> Due:
            # What people did since a listing, or just before it where it lags, it did not show.
            seen = [name for name, listed in turn.reach.listed.items() if listed is not None]
            since = min((turn.reach.asked.get(name, 0.0) - self._truth.stores[name].lag_seconds for name in seen), default=0.0)
            turn.have, turn.looked_at = have, self._ledger.shown(since)
            turn.decided = self._ledger.timeline.now()
            self._compare(turn, have)
            return Due()

        return Duty(name="eye", lane="keep", due=due, actions=())

    def _compare(self, turn: Turn, have: Observation) -> None:
        """Rule 1 and §2: what did not answer is Unknown, and what did is seen as it is."""
        for name, seen in have.catalogues.items():
            store, listed = self._truth.stores[name], turn.reach.listed.get(name)
            if not isinstance(seen, Known):
                if "unforeseen" in seen.reason:
                    self._ledger.breaks("no_bugs", seen.reason)
            elif listed is None:
                self._ledger.breaks("unknown_is_not_absent", f"{name} gave no listing, and is known")
            elif listed == store.changes and not store.lag_seconds:
                self._compare_states(turn, store, seen.value, seen.at)

    def _compare_states(self, turn: Turn, store: Store, seen: Catalogue, at: datetime) -> None:
        said = {copy.id: copy for copy in seen.copies}
        for folder in self._truth.folders(store, turn.want.name).values():
            copy = said.pop(folder.id, None)
            if copy is not None and copy.state == "whole" and self._is_whole(folder, turn.want.name, at):
                continue
            if not self._is_so(turn, folder, copy, at):
                state = self._truth.state(folder, turn.want.name, at)
                what = f"{folder.id} on {store.name} is {state}, seen as {f'{copy.state}: {copy.why}' if copy else 'nothing'}"
                self._ledger.breaks("seen_as_it_is", what)
        for key in said:
            self._ledger.breaks("seen_as_it_is", f"{key} on {store.name} is seen, and is not there")

    def _is_whole(self, folder: Folder, database: str, at: datetime) -> bool:
        """Of nearly all, nothing has changed since it was last asked; and what was whole then does not go by time alone."""
        whose, known = self._truth.repository(folder.store, database), self._whole.get((folder.store.name, folder.id))
        if known is not None and known[0] is folder and known[1] is whose and known[2] <= at:
            return True
        is_whole = self._truth.state(folder, database, at) == "whole"
        if is_whole:
            self._whole[folder.store.name, folder.id] = folder, whose, at
        return is_whole

    def _is_so(self, turn: Turn, folder: Folder, copy: Copy | None, at: datetime) -> bool:
        said = copy.state if copy else "gone"
        states: set[str] = set()
        for when in (at, at - LONGEST_LOOK):
            states.add(self._truth.state(folder, turn.want.name, when))
            if said in states:
                return True
        if said == "debris" and states == {"being_written"}:
            return folder.store.now() - folder.visible["intent.json"].stored.modified >= SILENT
        return said == "being_written" and states == {"debris"}

    def after(self, turn: Turn, applied: Applied) -> None:
        """What must be so once a turn is over, where the world is as it was seen last."""
        stores = [self._truth.stores[name] for name in turn.want.dumps.targets]
        as_seen = all(turn.reach.listed.get(store.name) == store.changes and not store.lag_seconds for store in stores)
        if not as_seen or not self._ledger.is_calm(turn):
            return
        self._judge_objectives(turn, applied.after)
        if all(outcome.result == "done" for outcome in applied.outcomes) and not applied.after.foreign:
            self._judge_holds(turn, applied)

    def _judge_holds(self, turn: Turn, applied: Applied) -> None:
        """Rule 12: a hold that is seen on one target comes to every copy of its backup in the same turn."""
        names, database, now = turn.want.dumps.targets, turn.want.name, turn.process.host.now()
        tried = {outcome.action for outcome in applied.outcomes}
        # What another reconciler copied meanwhile was not there yet.
        coming = {
            step.action.parameters["backup"]
            for step in applied.after.steps
            if step.action.kind == "spread_hold" and step.action.id not in tried
        }
        copies = [folder for name in names for folder in self._truth.folders(self._truth.stores[name], database).values()]
        states = [(copy, self._truth.state(copy, database, now)) for copy in copies]
        # What was listed may not have been read.
        seen = turn.have.known() if turn.have else {}
        held = {
            copy.id for copy, state in states if "hold.json" in copy.visible and state != "foreign" and copy.store.name in seen
        }
        for copy, state in states:
            if copy.id in held and state == "whole":
                self._ledger.held.add((copy.store.name, copy.id))
                if "hold.json" not in copy.visible and copy.id not in coming and copy.store.name in seen:
                    self._ledger.breaks("a_hold_comes_along", f"{copy.id} is held, and its copy on {copy.store.name} is not")

    def _judge_objectives(self, turn: Turn, plan: Plan) -> None:
        """Rule 1: an objective is met by what is whole in truth, and by nothing else."""
        now = turn.process.host.now()
        for condition in plan.conditions:
            if condition.status not in ("met", "at_risk") or condition.name == "verified":
                continue
            if self._kept is not None and condition.name in ("rpo", "pitr"):
                project, keeper = self._kept
                back = condition.objective if condition.name == "pitr" else LONGEST_LOOK
                if condition.status == "at_risk" or keeper.reaches(project, back, LONGEST_LOOK):
                    continue
                if condition.name == "pitr":
                    self._ledger.breaks("met_is_met", f"pitr is {condition.status}: {condition.says}")
                    continue
            found = self._truth.whole(turn.want.name, turn.want.dumps.targets, now).values()
            whole = [one for one in found if not one.partial]
            if not whole or min(now - one.instant for one in whole) > condition.objective + LONGEST_LOOK:
                self._ledger.breaks("met_is_met", f"{condition.name} is {condition.status}: {condition.says}")

    def pruned(self, turn: Turn, backup: str) -> None:
        """Rule 12: it was given up, and no pin that was there before is passed over: the tombstone would have gone again."""
        database, home = turn.want.name, self._truth.stores[turn.want.home]
        since = self._ledger.condemned.get(backup)
        for key, at in self._ledger.pinned.items():
            held = home.current(key) if key.startswith(f"{database}/pins/{backup}-") else None
            before = since is not None and at < since and not home.lag_seconds
            if held is not None and before and self._truth.lives(read(held.content, ClaimBrief)):
                self._ledger.breaks("nothing_goes_under_a_reader", f"{backup} was given up under {key}")

    def not_ours(self, want: DatabasePolicy) -> set[str]:
        """Ids of which an intent stays: who touches nothing of them ends no session of theirs."""
        stores = (self._truth.stores[name] for name in want.dumps.targets)
        return {folder.id for store in stores for folder, is_ours in self._begun(store, want.name) if not is_ours}

    def _begun(self, store: Store, database: str) -> Iterator[tuple[Folder, bool]]:
        """What has an intent, and whether it is for us to take that away."""
        for folder in self._truth.folders(store, database).values():
            if "intent.json" in folder.visible:
                yield folder, self._truth.state(folder, database, store.now()) not in ("foreign", "deleted")

    def leftovers(self, want: DatabasePolicy) -> Iterator[str]:
        """What a death left that the next turns should have taken away. Without its intent, nobody can tell that it is dead."""
        for name in want.dumps.targets:
            store = self._truth.stores[name]
            for upload in store.unfinished(f"{want.name}/backups/"):
                yield f"{name}: upload of {upload.key}"
            for folder, is_ours in self._begun(store, want.name):
                if is_ours:
                    yield f"{name}: intent of {folder.id}"
