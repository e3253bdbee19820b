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


def test_doctor_looks_at_hooks(stand: Stand) -> None:
    """What would fail at night shows by day, and is well once the cure was followed; nothing is run meanwhile."""
    hook = '{argv: [./note], env: {TOKEN: "${T}"}}'
    stand.rewrite("dumps:", f"dumps:\n      hooks: {{before: [{hook}], after: [{hook}, {{argv: [no-such-program]}}]}}")
    program = stand.folder / "note"
    program.write_text(NOTE)

    checkup = stand.json("doctor", expect=1, T="hunter2-hunter2")["databases"][0]

    found = [(one["severity"], one["where"]) for one in checkup["findings"] if "hooks" in one["where"]]
    assert [("error", "hooks.before[0]"), ("error", "hooks.after[0]"), ("error", "hooks.after[1]")] == found

    program.chmod(0o700)
    stand.rewrite(", {argv: [no-such-program]}", "")
    unset = stand.run("doctor", expect=1)
    assert 2 == unset.stdout.count("the environment variable T is not set or empty")

    well = stand.run("doctor", T="hunter2-hunter2")
    assert f"hooks.after[0]   {program} may be executed, and what it is given is at hand" in well.stdout
    assert "hunter2-hunter2" not in well.stdout + well.stderr
    assert not (stand.folder / "noted").exists()
