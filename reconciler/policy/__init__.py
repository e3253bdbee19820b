"""The policy: text in git, read into frozen types. One file is read; nothing is connected to."""

from reconciler.policy.loading import load, places, read, read_text

__all__ = ["load", "places", "read", "read_text"]
