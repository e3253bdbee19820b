"""A lock that is asked of a target that sets none, or for no time: refused, with what would lock."""

from pathlib import Path

import pytest

from reconciler.connect import KINDS
from reconciler.errors import BadPolicy
from reconciler.policy.loading import load

POLICY = """version: 1
metadata: {{name: test, owner: nobody}}
targets:
  far: {{{target}, object_lock: {{mode: governance, retain: 30d}}}}
databases:
  hotel:
    source: {{provider: postgres, url: "${{SOURCE_URL}}"}}
    encryption: none
    dumps: {{schedule: "0 2 * * *", targets: [far]}}
"""


@pytest.mark.parametrize(
    "target",
    ["type: gcs, bucket: backups-hotel", "type: azure, account: backupshotel, container: vault", "type: local, path: ./d"],
)
def test_object_lock_is_of_s3(target: str, tmp_path: Path) -> None:
    """Passed over, it would be a lock that somebody believes in."""
    with pytest.raises(BadPolicy) as caught:
        load(POLICY.format(target=target).encode(), KINDS, path=tmp_path / "policy.yaml")

    (finding,) = caught.value.findings
    assert "unknown key" == finding.what
    assert finding.cure.startswith("only targets of type s3 lock; on gcs and azure, a policy of the bucket or container")


@pytest.mark.parametrize("retain", ["0s", "1s", "59s"])
def test_a_lock_for_less_than_a_minute(retain: str, tmp_path: Path) -> None:
    """A store refuses what is over before it arrives: told by `validate` already, at its place."""
    text = POLICY.format(target="type: s3, bucket: backups-hotel").replace("30d", retain)
    with pytest.raises(BadPolicy) as caught:
        load(text.encode(), KINDS, path=tmp_path / "policy.yaml")

    (finding,) = caught.value.findings
    assert f"{tmp_path / 'policy.yaml'}:4:82  targets.far.object_lock.retain" == finding.where
    assert f'"{retain}": is shorter than a minute, and locks nothing; write a longer one, as 30d' == finding.what


@pytest.mark.parametrize("retain", ["60s", "1m", "30d"])
def test_a_lock_for_a_minute_and_more(retain: str, tmp_path: Path) -> None:
    """It is taken."""
    text = POLICY.format(target="type: s3, bucket: backups-hotel").replace("30d", retain)

    assert load(text.encode(), KINDS, path=tmp_path / "policy.yaml").targets
