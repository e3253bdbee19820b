"""Neon on this machine: its API over branches and computes that are real PostgreSQL clusters. For trying and testing only."""
