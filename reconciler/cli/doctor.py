"""Are the surroundings as a backup needs them? Really tries: in a corner of each target that it removes again, and at the source.

examples:
  reconcile doctor                        all databases, with their tools, sources, hooks and targets
  reconcile doctor --target offsite       just that target
  reconcile doctor --format json
"""

import argparse
from collections.abc import Sequence

import msgspec

from reconciler.cli.frame import Call
from reconciler.doctor.report import Checkup
from reconciler.planning.table import table
from reconciler.planning.text import counted, plain

_SEVERITIES = ("error", "warning", "note")


class DoctorDocument(msgspec.Struct, frozen=True, kw_only=True):
    """What `doctor --format json` prints."""

    format: int
    healthy: bool
    """No finding is an error."""
    databases: tuple[Checkup, ...]


def register(parser: argparse.ArgumentParser) -> None:
    """Its options."""
    parser.add_argument(
        "--target",
        metavar="NAME",
        action="append",
        default=[],
        help="only this target, and nothing else (may be repeated)",
    )


def run(call: Call) -> int:
    """Examine, print; 1 where anything is an error."""
    from reconciler.cli.session import named_targets, open_session
    from reconciler.doctor.examine import examine

    session = open_session(call)
    only = named_targets(session, call.arguments.target)
    checkups = [
        examine(session.policy, want, world, only=only)
        for want, world in session.worlds(writable=True)
        if not only or not only.isdisjoint(world.targets)
    ]
    healthy = not any(checkup.errors for checkup in checkups)
    if call.json:
        call.answer_json(DoctorDocument(format=1, healthy=healthy, databases=tuple(checkups)))
    else:
        call.answer(_text(checkups))
    return 0 if healthy else 1


def _text(checkups: Sequence[Checkup]) -> str:
    blocks = [f"{one.database}  ({plain(one.place)})\n{_rows(one)}\n" for one in checkups]
    counts = [sum(finding.severity == severity for one in checkups for finding in one.findings) for severity in _SEVERITIES]
    found = ", ".join(counted(count, severity) for count, severity in zip(counts, _SEVERITIES, strict=True))
    return "\n".join([*blocks, f"{found}; {counted(sum(len(one.passed) for one in checkups), 'check')} passed"])


def _rows(one: Checkup) -> str:
    """What is wrong first, the worst before the rest; then what was tried and is well."""
    findings = sorted(one.findings, key=lambda finding: _SEVERITIES.index(finding.severity))
    rows: list[tuple[str, str, str]] = []
    for finding in findings:
        rows.append((finding.severity, finding.where, finding.what))
        rows += [("", "", f"→ {finding.cure}")] if finding.cure else []
    rows += [("ok", passed.where, passed.what) for passed in one.passed]
    return "\n".join(f"  {line}" for line in table(("", "", ""), rows).splitlines()[1:])
