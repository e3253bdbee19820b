"""Reading on from a byte: what a store tells of the range that it sends."""

import re

from reconciler.errors import Refused


def whole_size(content_range: str, start: int, doing: object) -> int | None:
    """Of the object, in bytes, as Content-Range has it; None where all of it comes and nothing tells.

    Raises Refused where the bytes do not begin at `start`: what is taken for the rest of an object must not be its beginning.
    """
    found = re.fullmatch(r"bytes (\d+)-\d+/(\d+)", content_range)
    if int(found[1]) != start if found else start:
        what = f"{doing}: the store does not begin at byte {start}, where it was asked to"
        raise Refused(what, cure="use another store, or no proxy before it: a read that broke off can't go on there")
    return int(found[2]) if found else None
