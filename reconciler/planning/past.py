"""What a provider's history is worth: since when it reaches back, who else sets it, and what threatens it. Pure."""

from collections.abc import Sequence
from datetime import datetime, timedelta

import msgspec

from reconciler.planning.text import age, counted, instant
from reconciler.policy.model import DatabasePolicy
from reconciler.policy.units import format_duration
from reconciler.world.facts import Known, Observation, Unknown
from reconciler.world.history import Change, HistoryFacts, What

SLACK = timedelta(minutes=5)
"""So much less is as good: clocks differ a little, and what is looked at was reckoned a moment ago."""
LATELY = timedelta(days=7)
"""Who sets something back does it these days."""


class Past(msgspec.Struct, frozen=True, kw_only=True):
    """The instants that can be returned to. None at all where `begins` is not before `latest`."""

    begins: datetime
    latest: datetime
    is_sure: bool = True
    """False: our records of changes can't be seen, and it may begin later."""
    seen_since: datetime
    """Since when we watch the window. What lies before is taken at the provider's word, who tells of no widening."""

    @property
    def is_empty(self) -> bool:
        return self.begins >= self.latest


def seen_history(have: Observation) -> HistoryFacts | None:
    """As far as it is Known."""
    return have.history.value if isinstance(have.history, Known) else None


def past(want: DatabasePolicy, have: Observation) -> Past | None:
    """What can be returned to now; None where the provider keeps nothing, or it is Unknown, or it refuses."""
    facts = seen_history(have)
    if facts is None or facts.refuses:
        return None
    # Widening brings nothing back, and nobody at the provider tells when it was done: our own records do.
    changes = window_changes(want, have, facts)
    ends = [change.at - min(_window(change.was), _window(change.now)) for change in changes if change.was]
    if (before := unnoted(changes, facts.window)) is not None and before >= timedelta(0):
        # Somebody else set it since we looked last: as far as we know, just now.
        ends.append(facts.clock - min(before, facts.window))
    return Past(
        begins=max([facts.begins, *ends]),
        latest=facts.latest,
        is_sure=not unseen_records(want, have),
        seen_since=min((change.at for change in changes), default=facts.clock),
    )


UNSEEN = timedelta(seconds=-1)
"""In the place of a window that was never seen."""


def unnoted(changes: Sequence[Change], window: timedelta) -> timedelta | None:
    """The window as we saw it last, where it is another one by now; UNSEEN where we never saw any, None where we know it."""
    done = [change for change in changes if change.done]
    if not done:
        return UNSEEN
    last = _window(done[-1].now)
    return None if last == window else last


def window_changes(want: DatabasePolicy, have: Observation, facts: HistoryFacts) -> tuple[Change, ...]:
    """Of this project's window, whichever of its databases set it: those that were done, and those that may have been."""
    kept = [seen.value for seen in have.windows.values() if isinstance(seen, Known)]
    found = [change for changes in kept for change in changes if change.where == facts.project]
    if len(kept) > 1:
        # Sequences are a home's own.
        found.sort(key=lambda change: change.at)
    # Before there was a folder for these, they lay among the others.
    return (*changes_of(want, have, "window", facts), *found)


def unseen_records(want: DatabasePolicy, have: Observation) -> tuple[str, ...]:
    """The targets that could tell when the window was widened, and can't be seen."""
    unseen = {name for name, seen in have.windows.items() if isinstance(seen, Unknown)}
    return tuple(sorted(unseen | ({want.home} - have.known().keys())))


def changes_of(want: DatabasePolicy, have: Observation, what: What, facts: HistoryFacts) -> tuple[Change, ...]:
    """Of this project, as the home target tells them, by sequence."""
    home = have.known().get(want.home)
    changes = () if home is None else home.changes
    return tuple(change for change in changes if change.what == what and change.where == facts.project)


def _window(seconds: str) -> timedelta:
    return timedelta(seconds=int(seconds)) if seconds.isdecimal() else timedelta(0)


def setbacks(changes: Sequence[Change], seen: str, now: datetime) -> int:
    """How often in the last days somebody else changed what we had set. `seen`: what it is now, in the records' words."""
    times, known, begun = 0, None, dict[tuple[str, str], list[str | None]]()
    for change in changes:
        pair = change.was, change.now
        if not change.done:
            begun.setdefault(pair, []).append(known)
            continue
        # As it was known when this was begun: two databases of a project may set the same at the same time.
        ours = bool(begun.get(pair))
        before = begun[pair].pop() if ours else known
        known = change.now
        if change.at > now - LATELY:
            # What was only noted is somebody else's doing.
            times += before not in (None, change.was if ours else change.now)
    return times + (known not in (None, seen))


def says(facts: HistoryFacts, reach: Past) -> str:
    """For people."""
    if not reach.is_sure:
        return f"any instant of these days (window {format_duration(facts.window)}; since when can't be told)"
    said = f"any instant since {instant(reach.begins)} (window {format_duration(facts.window)})"
    # Who widened it before we looked left no trace.
    return f"{said}, unless it was widened lately" if reach.seen_since > reach.begins + SLACK else said


def fight(times: int, what: str) -> str:
    """What is said of a value that somebody else keeps setting; empty where nobody does."""
    return f"somebody keeps setting {what} back: {counted(times, 'time')} within {age(LATELY)}" if times > 1 else ""
