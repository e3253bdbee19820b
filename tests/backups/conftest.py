"""What the tests of backups share."""

from tests.servers.s3 import s3_server

__all__ = ["s3_server"]
