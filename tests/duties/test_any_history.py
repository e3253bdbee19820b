"""Properties over any history: whatever somebody made stays, whatever is planned is ours, and no window shrinks unasked."""

import re
from datetime import timedelta
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from reconciler.duties.branches import SweepBranch
from reconciler.duties.pitr import WidenWindow
from reconciler.duties.snapshots import DeleteSnapshot
from reconciler.world.history import BranchFacts, SnapshotFacts
from tests.building import (
    DAY,
    HOUR,
    NOW,
    REPOSITORY,
    catalogue,
    copy,
    history,
    id_of,
    observation,
    planned,
    policy,
    snapshots,
    tombstone,
    window,
)

MAIN = history().value.branches[0]
IDS = tuple(id_of(NOW - number * HOUR) for number in range(4))
COPIES = [copy(NOW), copy(NOW - HOUR, "debris"), copy(NOW - 2 * HOUR, "being_written")]
SEEN = catalogue(COPIES, [tombstone(copy(NOW - 3 * HOUR), NOW - HOUR)])

NAMES = st.sampled_from(
    ["preview", "reconciler-hotel", *(f"reconciler-{name}-{use}" for name in ("hotel", "hotel2", "an-hotel") for use in IDS)]
) | st.from_regex(r"reconciler-hotel-\d{8}T\d{6}Z-[0-9a-f]{6}", fullmatch=True)


@st.composite
def branches(draw: st.DrawFn) -> tuple[BranchFacts, ...]:
    """Up to eight, each below the main one, another, or none."""
    found = [MAIN]
    for number in range(draw(st.integers(0, 8))):
        fields: dict[str, Any] = {
            "parent": draw(st.sampled_from([None, *(one.id for one in found)])),
            "expires": draw(st.none() | st.sampled_from([NOW - HOUR, NOW + HOUR])),
            "marked": draw(st.sampled_from([None, "hotel", "hotel", "another"])),
            "is_protected": draw(st.booleans()) and draw(st.booleans()),
        }
        found.append(BranchFacts(id=f"br-{number}", name=draw(NAMES), created=NOW - 2 * HOUR, **fields))
    return tuple(found)


@given(branches())
def test_branches(there: tuple[BranchFacts, ...]) -> None:
    """What is swept bears our name and mark, hangs on something, is used by nobody, and leaves nobody's child behind."""
    plan = planned(policy(pitr=window("1d")), observation(kept=history(branches=there), primary=SEEN))
    by_id = {branch.id: branch for branch in there}
    going = {step.action.branch for step in plan.steps if isinstance(step.action, SweepBranch)}

    for one in (by_id[key] for key in going):
        match = re.fullmatch(r"reconciler-hotel-(\d{8}T\d{6}Z-[0-9a-f]{6})", one.name)
        assert match is not None
        assert (one.marked, one.parent is None, one.is_protected, one.is_default) == ("hotel", False, False, False)
        assert match[1] != COPIES[2].id
        assert match[1] in IDS or (one.expires is not None and one.expires <= NOW)
        children = [child for child in there if child.parent == one.id]
        assert all(child.marked == "hotel" and child.name.startswith("reconciler-hotel-") for child in children)
    order = [step.action.branch for step in plan.steps if isinstance(step.action, SweepBranch)]
    assert all(order.index(key) < order.index(by_id[key].parent) for key in order if by_id[key].parent in going)  # type: ignore[arg-type]  # it has one


@given(
    st.lists(
        st.tuples(
            st.integers(0, 40 * 24),
            st.sampled_from([f"reconciler-hotel-{REPOSITORY[:8]}-", "reconciler-hotel-00ff00ff-", "by hand "]),
            st.booleans(),
            st.sampled_from(["br-main", "br-other"]),
            st.sampled_from([1 << 30, 1 << 30, None]),
        ),
        unique_by=lambda one: one[0],
        max_size=20,
    ),
    st.sampled_from(["1h", "1d", "7d"]),
)
def test_snapshots(drawn: list[tuple[int, str, bool, str, int | None]], retain: str) -> None:
    """What is deleted is ours, too old, and not one of the last two that hold something; and not much of it in a day."""
    there = tuple(
        SnapshotFacts(
            id=f"snap-{hours}", name=f"{name}{NOW - hours * HOUR:%Y%m%dT%H%M%SZ}", branch=branch, instant=NOW - hours * HOUR,
            is_manual=manual, bytes=size,
        )
        for hours, name, manual, branch, size in drawn
    )  # fmt: skip
    asked = snapshots(via="reconciler", retain=retain)
    plan = planned(policy(snapshots=asked), observation(kept=history(snapshots=there), primary=catalogue([copy(NOW)])))
    ours = [one for one in there if one.name.startswith(f"reconciler-hotel-{REPOSITORY[:8]}-") and one.is_manual]
    here = sorted((one for one in ours if one.branch == "br-main"), key=lambda one: one.instant, reverse=True)
    going = {step.action.snapshot for step in plan.steps if isinstance(step.action, DeleteSnapshot)}

    last = [one.id for one in here if one.bytes is not None][:2]
    assert going <= {one.id for one in here if one.instant < NOW - asked.retain} - {*last}
    assert not going or len(last) == 2
    born = sum(one.instant > NOW - DAY for one in here)
    assert len(going) <= born + max(1, 30 * len(here) // 100)


@given(st.integers(0, 40 * 24), st.integers(1, 40 * 24), st.sampled_from([None, 7 * DAY, 30 * DAY]))
def test_windows(kept: int, wanted: int, most: timedelta | None) -> None:
    """Whatever is done without a digest makes a window larger, and not larger than wanted or than there is."""
    limits = history().value.limits
    facts = history(window=kept * HOUR, limits=type(limits)(window=most))
    plan = planned(policy(pitr=window(f"{wanted}h")), observation(kept=facts, primary=catalogue([copy(NOW)])))
    steps = [step.action for step in plan.steps if step.action.kind not in ("take_dump", "note_window")]

    assert all(isinstance(action, WidenWindow) for action in steps)
    assert all(kept * 3600 < action.now_seconds <= wanted * 3600 for action in steps if isinstance(action, WidenWindow))
    assert bool(plan.blocked) == (kept > wanted)
