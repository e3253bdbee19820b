"""All that speaks PostgreSQL: addresses, sessions, dumps, restores. Slow to import, so it is imported when needed."""
