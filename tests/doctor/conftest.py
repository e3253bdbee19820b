"""What the tests of the doctor share."""

from tests.servers.postgres import postgres, postgres18, postgres_servers
from tests.servers.s3 import s3_server

__all__ = ["postgres", "postgres18", "postgres_servers", "s3_server"]
