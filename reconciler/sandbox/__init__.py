"""A real PostgreSQL and a real S3 server on this machine, without root, container or account: for trying and testing only."""
