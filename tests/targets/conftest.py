"""What the tests of targets share."""

from tests.servers.azure import azure_server
from tests.servers.gcs import fake_gcs, strict_gcs
from tests.servers.s3 import s3_server

__all__ = ["azure_server", "fake_gcs", "s3_server", "strict_gcs"]
