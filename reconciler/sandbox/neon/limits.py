"""What the account's plan allows, and what one hears that asks for more."""

from typing import Final

import msgspec

from reconciler.sandbox.neon.book import Book
from reconciler.sandbox.neon.refusals import invalid


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """How many of each, and how wide a window."""

    name: str
    branches: int
    roots: int
    snapshots: int
    protected: int
    window_seconds: int


PLANS: Final = {
    plan.name: plan
    for plan in (
        Plan(name="free", branches=10, roots=3, snapshots=1, protected=0, window_seconds=6 * 3600),
        Plan(name="launch", branches=5000, roots=5, snapshots=100, protected=2, window_seconds=7 * 86400),
        Plan(name="scale", branches=5000, roots=25, snapshots=100, protected=5, window_seconds=30 * 86400),
    )
}
"""Neon's, as of 2026-08 (documentation: introduction/plans, manage/branches, guides/backup-restore)."""


def plan(book: Book) -> Plan:
    """The account's."""
    return PLANS[book.state.project.plan]


def must_fit_branch(book: Book, *, root: bool, protected: bool = False) -> None:
    """Raises Refusal when one more is too many."""
    allowed, branches = plan(book), book.branches()
    if len(branches) >= allowed.branches:
        raise invalid(f"branches limit exceeded: {allowed.branches}", code="BRANCHES_LIMIT_EXCEEDED")
    if root and sum(branch.parent_id is None for branch in branches) >= allowed.roots:
        raise invalid(f"root branches limit exceeded: {allowed.roots}", code="ROOT_BRANCHES_LIMIT_EXCEEDED")
    if protected:
        must_fit_protected(book)


def must_fit_protected(book: Book) -> None:
    """Raises Refusal when one more is too many."""
    allowed = plan(book).protected
    if sum(branch.protected for branch in book.branches()) >= allowed:
        raise invalid(f"protected branches limit exceeded: {allowed}", code="BRANCHES_PROTECTED_LIMIT_EXCEEDED")


def must_fit_snapshot(book: Book) -> None:
    """Raises Refusal when one more by hand is too many; scheduled ones don't count."""
    allowed = plan(book).snapshots
    if sum(snapshot.manual for snapshot in book.state.snapshots.values()) >= allowed:
        # Nobody has published this code.
        raise invalid(f"snapshots limit exceeded: {allowed}", code="SNAPSHOTS_LIMIT_EXCEEDED")
