"""Folders in stores: names parted by single slashes."""


class Folder(str):
    """What every key in it begins with: `backups/`, or nothing where it is the store's top."""

    __slots__ = ()

    @classmethod
    def parse(cls, text: str) -> "Folder":
        """Slashes around it are left out. Raises ValueError with the reason."""
        names = text.strip("/")
        if any(name in ("", ".", "..") for name in names.split("/") if names):
            raise ValueError("is no folder in a store: part names by single slashes, none being `.` or `..`")
        return cls(f"{names}/" if names else "")
