"""What somebody may have meant who misspelt a name."""

from collections.abc import Iterable
from difflib import get_close_matches
from itertools import islice


def nearest(name: str, known: Iterable[str]) -> str:
    """`did you mean "retention"?`, or nothing. Its time is bounded, however many names are known."""
    # A slip seldom costs both ends of a name, and a close comparison is slow: few are left for it.
    likely = (other for other in known if abs(len(other) - len(name)) <= 2 and (other[:1] == name[:1] or other[-1:] == name[-1:]))
    close = get_close_matches(name[:64], islice(likely, 100), n=1)
    return f'did you mean "{close[0]}"?' if close else ""
