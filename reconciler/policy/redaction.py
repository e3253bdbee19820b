"""What takes secrets out of any text: a redactor that was told every one of them."""

import json
import re
from collections.abc import Iterable, Iterator
from threading import Lock
from typing import Final
from urllib.parse import quote, quote_plus, unquote, unquote_plus

_KEYWORD: Final = re.compile(r"(?i)(?:password|passwd|sslpassword|secret|token)\s*=\s*('(?:[^'\\]|\\.)*'|[^\s&]+)")
_HOST: Final = re.compile(r"[^:]*(:[0-9]*)?([/?].*)?")
"""`host:5432/database`, after a scheme. What has something else for a port has lost its `@host`, and that is a password."""
_SHORT: Final = 4
"""Secrets below this length are replaced as whole words only: `a` would else take every a of a message."""

HIDDEN: Final = "***"


class Redactor:
    """Knows every secret that was revealed and replaces it by `***`. Safe to use from several threads.

    Made once by whoever starts the program, and passed on: what is global would carry secrets from one test or policy to another.
    """

    def __init__(self) -> None:
        self._lock = Lock()
        self._known: set[str] = set()
        self._pattern: re.Pattern[str] | None = None
        """Of all that is known, made when it is needed: hundreds of secrets are learned in a row."""

    def learn(self, value: str) -> None:
        """Hide this value from now on: as it is, percent-encoded and decoded, quoted; of a URL its password too."""
        with self._lock:
            for piece in _pieces(value):
                self._known.update(form for form in _forms(piece) if form.strip())
            self._pattern = None

    def learn_typed(self, words: Iterable[str]) -> None:
        """Hide those words of a command line that look like an address, which may hold a password: errors repeat words."""
        for word in words:
            if "://" in word or _KEYWORD.search(word):
                self.learn(word)

    def redact(self, text: str) -> str:
        """The text with every known secret replaced by `***`."""
        with self._lock:
            if self._pattern is None:
                # The longest first, so that a secret within another doesn't leave the rest of it standing.
                known = sorted(self._known, key=lambda form: (-len(form), form))
                self._pattern = re.compile("|".join(_alternative(form) for form in known) or r"(?!)")
            pattern = self._pattern
        return pattern.sub(HIDDEN, text)


def _pieces(value: str) -> Iterator[str]:
    yield value
    # A file of several keys: a message may repeat one line of it. What is public in it stays readable.
    yield from (line.strip() for line in value.splitlines() if "SECRET-KEY" in line)
    # A malformed URL can't be parsed, and is just what libraries quote in their errors: take every reading of `user:password@`.
    _, scheme, rest = value.partition("://")
    if scheme and "@" in rest:
        for userinfo in (rest.rpartition("@")[0], rest.split("/")[0].rpartition("@")[0], rest.partition("@")[0]):
            yield userinfo.partition(":")[2]
    elif scheme and not _HOST.fullmatch(rest):
        yield rest.partition(":")[2]
    for match in _KEYWORD.finditer(value):
        yield match[1].strip("'")


def _forms(piece: str) -> Iterator[str]:
    for form in (piece, unquote(piece), unquote_plus(piece)):
        yield from (form, quote(form, safe=""), quote(form), quote_plus(form))
        yield from (json.dumps(form)[1:-1], json.dumps(form, ensure_ascii=False)[1:-1], repr(form)[1:-1])


def _alternative(form: str) -> str:
    escaped = re.escape(form)
    return escaped if len(form) >= _SHORT else rf"(?<!\w){escaped}(?!\w)"
