"""In which order the sessions of a parallel restore take the tables of a directory archive: the largest first.

pg_restore goes by the size of their files. Where these are FIFOs it sees none, and goes by the numbers of the entries.
"""

from collections.abc import Callable, Mapping

import msgspec

from reconciler.errors import Corrupt, Refused
from reconciler.postgres.archive_roles import TAR, Contents


class Ordered(msgspec.Struct, frozen=True, kw_only=True):
    """A table of contents with other numbers."""

    toc: bytes
    numbers: Mapping[int, int]
    """What entries were called → what they are called now. What is not among them kept its number."""


def largest_first(toc: bytes, size: Callable[[str], int]) -> Ordered:
    """The tables' rows change numbers among themselves, and whatever depends on them follows. Raises Corrupt.

    `size` tells how long a file is. A version of archives that is not known here stays as it is: it is slower then, not wrong.
    """
    contents = Contents(toc, {}, TAR)
    try:
        contents.changed()
        found = contents.data_files
        by_size = sorted(found, key=lambda number: -size(found[number]))
        numbers = dict(zip(by_size, sorted(found), strict=True))
        return Ordered(toc=Contents(toc, {}, TAR, numbers).changed(), numbers=numbers)
    except Refused:
        return Ordered(toc=toc, numbers={})
    except IndexError as error:
        raise Corrupt("the archive ends within its table of contents", cure="check the backup") from error
