"""Neon: a database that its API finds, and that is dumped through short-lived branches."""
