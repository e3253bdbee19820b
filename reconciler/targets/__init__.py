"""The kinds of target there are, in the order in which messages name them."""

from reconciler.targets import azure, gcs, git_lfs, local, s3

TARGETS = (local.KIND, s3.KIND, gcs.KIND, azure.KIND, git_lfs.KIND)
