"""Hooks of a policy, from the file to the exit code."""

from tests.end_to_end.conftest import Stand

NOTE = """\
#!/bin/sh
echo "$RECONCILER_PHASE $TOKEN" >> noted
test "$RECONCILER_PHASE" = before && exit 0
echo $TOKEN; exit 5
"""


def test_hooks_of_a_policy(stand: Stand) -> None:
    """They run beside the dump; one that fails after it is told, and the backup is there all the same."""
    program = stand.folder / "note"
    program.write_text(NOTE)
    program.chmod(0o700)
    hook = '[{argv: [./note], on: [dump, verify], env: {TOKEN: "${T}"}}]'
    stand.rewrite("dumps:", f"dumps:\n      hooks: {{before: {hook}, after: {hook}}}")

    ran = stand.run("apply", "--yes", expect=1, T="hunter2-hunter2")

    assert ["before hunter2-hunter2", "after hunter2-hunter2"] == (stand.folder / "noted").read_text().splitlines()
    assert "hook ./note after the dump failed: exit code 5: ***" in ran.stdout + ran.stderr
    assert "hunter2-hunter2" not in ran.stdout + ran.stderr
    (backup,) = stand.backups()

    stand.run("backups", "verify", backup["id"], "--level", "hash", "--target", "primary", expect=1, T="hunter2-hunter2")
    assert 4 == len((stand.folder / "noted").read_text().splitlines())
