"""The folder of a target in its store, as policies write it."""

from pathlib import Path

import pytest

from reconciler.connect import KINDS
from reconciler.errors import BadPolicy
from reconciler.policy import load
from reconciler.policy.folder import Folder
from tests.policy.test_sites import DISK, TEXT


@pytest.mark.parametrize(
    ("written", "begins"),
    [("", ""), ("/", ""), ("backups", "backups/"), ("backups/", "backups/"), ("/a/b//", "a/b/"), (".a/..b", ".a/..b/")],
)
def test_what_keys_begin_with(written: str, begins: str) -> None:
    """However its slashes are written."""
    assert begins == Folder.parse(written)


@pytest.mark.parametrize("prefix", ["..", "../x/", "a/./b", "a//b", "x/.."])
@pytest.mark.parametrize(
    "target",
    ["{{type: s3, bucket: backups, prefix: {prefix}}}", "{{type: gcs, bucket: backups, prefix: {prefix}}}",
     "{{type: azure, account: backups, container: backups, prefix: {prefix}}}",
     "{{type: git_lfs, path: ./own.git, prefix: {prefix}}}"],
    ids=["s3", "gcs", "azure", "git_lfs"],
)  # fmt: skip
def test_what_is_no_folder(target: str, prefix: str) -> None:
    """It is a fault of the policy, where it stands, and no store's to refuse at the first write, or to take as another place."""
    text = TEXT.format(one=target.format(prefix=prefix), other=DISK).encode()

    with pytest.raises(BadPolicy) as told:
        load(text, KINDS, path=Path("policy.yaml"))

    (finding,) = told.value.findings
    assert f'"{prefix}": is no folder in a store' in finding.what
    assert finding.where.startswith("policy.yaml:4:")
