"""Commands that a text names, `reconcile unfreeze hotel` say, for whoever types them next: they name the policy that was given.

Who writes such a text, far below, knows neither how the policy was given nor that it lies in a file.
"""

import re
from collections.abc import Sequence
from typing import Final

from reconciler.cli.main import COMMANDS, split

WITHOUT_POLICY: Final = ("keys", "schema")
"""Commands that read none."""
_COMMAND: Final = re.compile(r"(?<=`)reconcile (?P<words>[^`\n]+)(?=`)")


def complete(text: str, policy: str) -> str:
    """The text, each of its commands with `policy` at its end: what a shell is to read, as `-p pol.yaml`; empty: none is needed.

    A command stands between backquotes, and is one of ours. What names a policy by itself stays as it is.
    """
    if not policy or "`reconcile " not in text:
        return text
    return _COMMAND.sub(lambda found: f"{found[0]} {policy}" if _lacks(found["words"].split()) else found[0], text)


def _lacks(words: Sequence[str]) -> bool:
    name, rest = split(words)
    return name in COMMANDS and name not in WITHOUT_POLICY and not any(word.startswith(("-p", "--policy")) for word in rest)
