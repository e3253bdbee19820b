"""The whole program and the history that Neon keeps: never shortened unasked, snapshots once a slot, only our branches swept."""

import re

from reconciler.world.history import MARK
from tests.end_to_end.conftest import DAILY, HOUR
from tests.end_to_end.test_neon import NeonStand, stand

__all__ = ["stand"]


def ask(stand: NeonStand, section: str) -> None:
    """The policy says that too."""
    policy = stand.folder / "backup-policy.yaml"
    policy.write_text(policy.read_text().replace("    encryption:", f"    {section}\n    encryption:"))


def window(stand: NeonStand) -> int:
    stand.neon.wait()
    seconds: int = stand.neon.get("")["project"]["history_retention_seconds"]
    return seconds


def test_a_window_is_shortened_by_its_digest_alone(stand: NeonStand) -> None:
    """Blocked, named, left alone by an ordinary apply; done for whoever gives the digest of just that."""
    stand.neon.patch("", {"project": {"history_retention_seconds": 7 * 86400}})
    ask(stand, "pitr: {window: 1d}")
    plan = stand.run("plan", expect=3)
    stand.run("apply", "--yes", expect=3)
    before = window(stand)
    digest = re.search(r"--allow-destructive=(\w+)", plan)
    assert digest is not None

    stand.run("apply", "--yes", "--database", "hotel", f"--allow-destructive={digest[1]}")

    assert re.search(r"! PITR window +7d → 1d", plan)
    assert (7 * 86400, 86400) == (before, window(stand))


def test_snapshots_of_ours(stand: NeonStand) -> None:
    """One for the slot, whatever number of turns; the first comes after the first dump."""
    ask(stand, f'snapshots: {{schedule: "{DAILY}", retain: 7d, via: reconciler}}')
    for _ in range(3):
        stand.run("apply", "--yes")
    stand.neon.wait()

    names = [one["name"] for one in stand.neon.get("/snapshots")["snapshots"] if one["name"].startswith("reconciler-")]
    assert 1 == len(names)
    assert re.fullmatch(rf"reconciler-hotel-[0-9a-f]{{8}}-\d{{8}}T{HOUR:02}0000Z", names[0])


def test_branches_that_were_left_behind(stand: NeonStand) -> None:
    """Ours of a dump that is over goes, and its record is there; one that only looks like ours stays, and so does a preview."""
    stand.run("apply", "--yes")
    (manifest,) = stand.manifests()
    ours, alike = f"reconciler-hotel-{manifest['id']}", "reconciler-hotel-20200101T000000Z-000000"
    for name, mark in ((ours, {MARK: "hotel"}), (alike, {}), ("preview", {})):
        stand.neon.wait()
        body = {"branch": {"parent_id": stand.neon.main, "name": name}} | ({"annotation_value": mark} if mark else {})
        stand.neon.post("/branches", body)
    stand.neon.wait()
    plan = stand.run("plan")

    stand.run("apply", "--yes")

    stand.neon.wait()
    names = {branch["name"] for branch in stand.neon.get("/branches")["branches"]}
    assert re.search(f"- delete branch +{ours}", plan)
    assert {alike, "preview"} <= names
    assert ours not in names
    assert sorted((stand.folder / "disk" / "hotel" / "changes").iterdir())


def test_what_a_loss_would_leave(stand: NeonStand) -> None:
    """Status tells how the history stands, and what is left without Neon and without the disk."""
    ask(stand, "pitr: {window: 1d}")
    stand.run("apply", "--yes")

    said = stand.run("status")

    assert re.search(r"hotel: pitr 1d (met|at_risk): any instant since", said)
    assert re.search(r"hotel: if neon is lost: backup of .* old, on disk", said)
    assert re.search(r"hotel: if host:\S+ is lost: any instant since", said)
