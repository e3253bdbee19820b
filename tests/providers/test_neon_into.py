"""Restoring into Neon: whether it is a source of the policy, its server is asked; and by which tools."""

from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest

from reconciler.cli.backups_read import _manners as restoring_manners
from reconciler.errors import Refused
from reconciler.policy.redaction import Redactor
from reconciler.policy.secret import Secret, Surroundings
from reconciler.postgres.hosted import refuse_source
from reconciler.providers.neon.settings import NeonSettings
from reconciler.world.facts import Identity
from tests.building import policy


class Told:
    """A session whose server says that of itself."""

    def __init__(self, project: str, branch: str, *, is_neons: bool) -> None:
        self._row = (project, branch, "hotel", is_neons)

    def execute(self, _: str) -> "Told":
        return self

    def fetchall(self) -> list[tuple[str, str, str, bool]]:
        return [self._row]


@pytest.mark.parametrize(
    ("told", "says"),
    [
        (Told("quiet-hotel", "br-main", is_neons=True), "is a source of the policy"),
        (Told("quiet-hotel", "br-other", is_neons=True), None),
        (Told("loud-hotel", "br-main", is_neons=True), None),
        (Told("", "", is_neons=True), "may be a source of the policy"),
        (Told("quiet-hotel", "", is_neons=True), "may be a source of the policy"),
        (Told("", "", is_neons=False), None),
    ],
)
def test_a_source_at_neon(told: Told, says: str | None) -> None:
    """Known by what its server says; one of Neon's that says nothing may be any."""
    source = Identity(provider="neon", cluster="quiet-hotel/br-main", database="hotel")
    with nullcontext() if says is None else pytest.raises(Refused, match=says):
        refuse_source(told, (source,), "postgres ep-1/hotel")  # type: ignore[arg-type]  # as much of a session as it asks for


def test_where_no_source_is_at_neon() -> None:
    """Nothing is asked."""
    elsewhere = Identity(provider="postgres", cluster="7423905183641200011", database="hotel")
    refuse_source(None, (elsewhere,), "postgres ep-1/hotel")  # type: ignore[arg-type]  # it is not asked


def test_the_tools_of_a_database_at_neon(tmp_path: Path) -> None:
    """A restore finds them where the source of its policy says, like a dump."""
    source = NeonSettings(
        project="quiet-hotel", branch="main", database="hotel", role="owner", api_key=Secret.parse("${KEY}"), client_bin="tools"
    )
    means = SimpleNamespace(surroundings=Surroundings(base=tmp_path, environ={}, redactor=Redactor()), clock=None, stop=None)
    session: Any = SimpleNamespace(means=means)

    assert tmp_path / "tools" == restoring_manners(msgspec.structs.replace(policy(), source=source), session).client_bin
