"""PITR: the window of the provider's own history is what the policy says, and reaches back as far as it can."""

from collections.abc import Iterator
from datetime import datetime, timedelta

from reconciler.backups.changes import noted, recorded
from reconciler.errors import Conflict, Finding, Refused
from reconciler.planning.past import UNSEEN, Past, fight, past, seen_history, setbacks, unnoted, unseen_records, window_changes
from reconciler.planning.plan import Action, Due, Duty, Shown, Step
from reconciler.planning.text import instant
from reconciler.policy.model import DatabasePolicy, Pitr
from reconciler.policy.units import format_duration
from reconciler.world.facts import Observation
from reconciler.world.history import HistoryFacts
from reconciler.world.ports import History, World


class _SetWindow(Action, frozen=True, kw_only=True):
    """Set a project's window from what it was seen to be."""

    project: str
    was_seconds: int
    now_seconds: int

    def perform(self, world: World, want: DatabasePolicy) -> str:
        """Recorded before and after: since when a widened window reaches back, nobody else remembers.

        By whichever clock is ahead, ours or the provider's: a window that seems younger than it is only has to wait.
        """
        was, wanted = timedelta(seconds=self.was_seconds), timedelta(seconds=self.now_seconds)
        history = history_of(world)
        behind = max(history.facts().clock - world.clock.now(), timedelta(0))
        words = str(self.was_seconds), str(self.now_seconds)
        with recorded(world, want, what="window", where=self.project, was=words[0], now=words[1], behind=behind):
            history.set_window(wanted, expect=was)
        return f"PITR window of {self.project}: {format_duration(was)} → {format_duration(wanted)}"


class WidenWindow(_SetWindow, frozen=True, kw_only=True, tag="widen_window"):
    """Keep more history from now on. What is gone already does not come back."""

    effect = "change"
    first = True


class NoteWindow(Action, frozen=True, kw_only=True, tag="note_window"):
    """Write down that the window is as it is seen, where we did not set it: since when, the provider tells nobody."""

    effect = "create"

    project: str
    was_seconds: int | None
    """As it was seen before; None: never."""
    now_seconds: int

    def perform(self, world: World, want: DatabasePolicy) -> str:
        """By the provider's clock, and only while it is so."""
        facts = history_of(world).facts()
        if (facts.project, _seconds(facts.window)) != (self.project, self.now_seconds):
            raise Conflict(f"{facts.project}: the PITR window is {format_duration(facts.window)} by now", cure="run again")
        was = "" if self.was_seconds is None else str(self.was_seconds)
        noted(world, want, where=self.project, was=was, now=str(self.now_seconds), at=facts.clock)
        return f"PITR window of {self.project} is {format_duration(facts.window)}: noted"


class ShortenWindow(_SetWindow, frozen=True, kw_only=True, tag="shorten_window"):
    """Keep less history: what is older goes at once, and for good."""

    effect = "delete"
    destroys = True


def history_of(world: World) -> History:
    """Of the provider, behind the world's fence. Raises Refused where it keeps none."""
    history = world.provider.history()
    if history is None:
        raise Refused("the provider keeps no history")
    return history.fenced(world.fence)


def due(want: DatabasePolicy, have: Observation, now: datetime) -> Due:
    """One step at most. An Unknown history is another's finding, and nothing rests on it."""
    facts, reach = seen_history(have), past(want, have)
    if facts is None:
        return Due()
    if want.pitr is None:
        # What is said of it rests on having watched it, whether anybody asks for its length or not.
        return Due(steps=tuple(_note(want, have, facts)))
    steps = _steps(want.pitr, have, facts, reach) if want.pitr.manage else ()
    return Due(
        steps=steps if any(isinstance(step.action, WidenWindow) for step in steps) else (*steps, *_note(want, have, facts)),
        findings=tuple(_findings(want.pitr, want, have, facts, now)),
        next_at=_whole_at(want.pitr, facts, reach, now),
    )


def _steps(pitr: Pitr, have: Observation, facts: HistoryFacts, reach: Past | None) -> tuple[Step, ...]:
    """As much as the account's plan gives, where it does not give all."""
    to = min(pitr.window, facts.limits.window or pitr.window) if facts.window < pitr.window else pitr.window
    if to == facts.window or (to < facts.window < pitr.window):
        return ()
    kind = WidenWindow if to > facts.window else ShortenWindow
    action = kind(
        database=have.database,
        project=facts.project,
        was_seconds=_seconds(facts.window),
        now_seconds=_seconds(to),
    )
    why = f"policy wants {format_duration(pitr.window)}"
    if kind is WidenWindow and reach is not None and reach.is_sure:
        why += f"; reaches back {format_duration(to)} from {instant(reach.begins + to)} on"
    elif kind is ShortenWindow:
        why += f"; instants before {instant(facts.clock - to)} are lost for good"
    to_says = f"{format_duration(facts.window)} → {format_duration(to)}"
    return (Step(action=action, shown=Shown(does="PITR window", to=to_says, why=why)),)


def _note(want: DatabasePolicy, have: Observation, facts: HistoryFacts) -> Iterator[Step]:
    """Where our records, if they can be seen, don't tell of this window."""
    before = unnoted(window_changes(want, have, facts), facts.window)
    if before is None or unseen_records(want, have):
        return
    was = None if before == UNSEEN else _seconds(before)
    action = NoteWindow(database=have.database, project=facts.project, was_seconds=was, now_seconds=_seconds(facts.window))
    why = "watched from now on" if was is None else f"somebody set it: {format_duration(before)} before"
    yield Step(action=action, shown=Shown(does="note PITR window", to=format_duration(facts.window), why=why))


def _findings(pitr: Pitr, want: DatabasePolicy, have: Observation, facts: HistoryFacts, now: datetime) -> Iterator[Finding]:
    wanted, limit = format_duration(pitr.window), facts.limits.window
    if limit is not None and pitr.window > limit:
        plan = f"the plan {facts.limits.plan}" if facts.limits.plan else "this account's plan"
        what = f"the policy wants a PITR window of {wanted}, and {plan} has {format_duration(limit)} at most"
        yield Finding(severity="error", where=facts.project, what=what, cure="change the plan at the provider, or want less")
    if not pitr.manage and facts.window != pitr.window:
        what = f"the PITR window is {format_duration(facts.window)}, and the policy wants {wanted}; it is not ours to set"
        yield Finding(severity="warning", where=facts.project, what=what, cure="set it there, or say manage: true")
    changes = window_changes(want, have, facts)
    if said := fight(setbacks(changes, str(_seconds(facts.window)), now), "the PITR window"):
        cure = "find out who (Terraform, a script, another policy), and let one of the two decide; manage: false only looks"
        yield Finding(severity="error", where=facts.project, what=f"{said}, now it is {format_duration(facts.window)}", cure=cure)


def _whole_at(pitr: Pitr, facts: HistoryFacts, reach: Past | None, now: datetime) -> datetime | None:
    """When the clock alone makes a young window whole."""
    if reach is None or not reach.is_sure or facts.window < pitr.window:
        return None
    whole = max(reach.begins, reach.seen_since) + pitr.window
    return whole if whole > now else None


def _seconds(span: timedelta) -> int:
    return span // timedelta(seconds=1)


DUTY = Duty(name="pitr", lane="keep", due=due, actions=(WidenWindow, NoteWindow, ShortenWindow))
