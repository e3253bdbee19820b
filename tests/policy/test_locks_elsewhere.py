"""A lock that is asked of a target that sets none: refused, with what does lock there."""

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
