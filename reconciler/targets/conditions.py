"""Does a store keep what it promises about conditional writes? Some take the header and write all the same."""

from contextlib import suppress

from reconciler.errors import Conflict
from reconciler.world.ports import ABSENT, Stored, Target


def honours_conditions(target: Target, key: str) -> bool:
    """Whether writes that must lose do lose. Writes to the scratch `key`, which must hold nothing else, and removes it again."""
    written: list[Stored] = []
    try:
        first = target.write(key, [b"1"])
        written += [first, target.write(key, [b"22"])]
        for expect in (ABSENT, first.etag):
            with suppress(Conflict):
                written.append(target.write(key, [b"333"], expect=expect))
    finally:
        # Version by version, where there are any: a plain deletion would leave them all, and a marker on top.
        for version in {stored.version for stored in written}:
            target.delete(key, version=version)
    return len(written) == 2
