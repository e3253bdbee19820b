"""Check the policy and show when its schedules fire next. Reads the file and connects to nothing.

examples:
  reconcile validate
  reconcile validate -p production.yaml --format json
"""

import argparse
from collections.abc import Iterator, Sequence
from datetime import datetime
from itertools import islice
from pathlib import Path
from zoneinfo import ZoneInfo

import msgspec

from reconciler.cli.frame import Call
from reconciler.cli.session import chosen
from reconciler.cli.values import whole_number
from reconciler.connect import KINDS
from reconciler.errors import Finding
from reconciler.planning.text import counted, instant, plain
from reconciler.planning.timing import rhythm
from reconciler.policy.lint import lint
from reconciler.policy.loading import load, places, read_text
from reconciler.policy.model import DatabasePolicy
from reconciler.policy.sites import sites_of
from reconciler.world.clock import SystemClock


class Firing(msgspec.Struct, frozen=True, kw_only=True):
    """When a schedule fires next."""

    database: str
    what: str
    schedule: str
    timezone: str
    says: str
    """The same for people, with what `auto` comes to before any dump was taken."""
    next: tuple[datetime, ...]


class ValidateDocument(msgspec.Struct, frozen=True, kw_only=True):
    """What `validate --format json` prints for a policy that holds together."""

    format: int
    policy: str
    digest: str
    findings: tuple[Finding, ...]
    firings: tuple[Firing, ...]


def register(parser: argparse.ArgumentParser) -> None:
    """Its options."""
    parser.add_argument("--next", type=whole_number(0, 100), default=3, metavar="N", help="how many firings to show (default: 3)")


def run(call: Call) -> int:
    """Faults go to stderr and exit 1 before this; here are lints and firings."""
    path, now = Path(call.arguments.policy), SystemClock().now()
    text = read_text(path)
    policy = load(text, KINDS, path=path)
    findings = lint(policy, places(text, path), now=now, sites=sites_of(policy, KINDS, path.resolve().parent))
    databases = chosen(policy, call.arguments.database)
    firings = [_firing(want, now, call.arguments.next) for want in databases]
    if call.json:
        call.answer_json(
            ValidateDocument(format=1, policy=str(path), digest=policy.digest, findings=tuple(findings), firings=tuple(firings))
        )
    else:
        call.answer(_text(path, findings, firings, len(databases), len(policy.targets)))
    return 1 if any(finding.severity == "error" for finding in findings) else 0


def _firing(want: DatabasePolicy, now: datetime, count: int) -> Firing:
    upcoming = tuple(islice(_starts(want, now), count))
    return Firing(
        database=want.name,
        what="dumps",
        schedule=str(want.dumps.schedule),
        timezone=str(want.timezone),
        says=rhythm(want, None),
        next=upcoming,
    )


def _starts(want: DatabasePolicy, now: datetime) -> Iterator[datetime]:
    """When dumps may start: slots that windows put off to the same instant are one."""
    newest = now
    for slot in want.slots().following(now, want.timezone):
        starts = want.opening(slot)
        if starts is None:
            return
        if starts > newest:
            yield starts
            newest = starts


def _text(path: Path, findings: Sequence[Finding], firings: Sequence[Firing], databases: int, targets: int) -> str:
    lines = []
    for finding in findings:
        cure = f"; {finding.cure}" if finding.cure else ""
        lines.append(f"{plain(finding.where)}  {finding.severity}: {plain(finding.what)}{plain(cure)}")
    for firing in firings:
        lines.append(f"{firing.database}  {firing.what}  {firing.says} in {firing.timezone}")
        lines += [f"  {_local(when, firing.timezone)}" for when in firing.next]
    errors = sum(finding.severity == "error" for finding in findings)
    verdict = f"{counted(errors, 'error')} in {path}" if errors else f"{path} is valid"
    lines.append(f"{verdict}: {counted(databases, 'database')}, {counted(targets, 'target')}")
    return "\n".join(lines)


def _local(when: datetime, timezone: str) -> str:
    """In its zone, and in UTC where that is another."""
    local = when.astimezone(ZoneInfo(timezone)).strftime("%a %Y-%m-%d %H:%M %Z")
    return local if timezone == "UTC" else f"{local}  =  {instant(when)}"
