"""A real PostgreSQL, a real S3 server and a Neon on this machine, without root, container or account: for trying only."""
