"""What may be a key, in every target alike."""

from reconciler.errors import Refused


def check_key(key: str) -> None:
    """Raise Refused unless it is names parted by single slashes: else it could mean another place in one store or another."""
    if "\0" in key or any(segment in ("", ".", "..") for segment in key.split("/")):
        raise Refused(f"{key!r} is no key of an object", cure="part names by single slashes, none being `.` or `..`")
