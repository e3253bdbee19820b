"""A target that can't be changed: what `--plan` is given, so that planning can't write, by construction."""

from typing import NoReturn

from reconciler.errors import Refused
from reconciler.world.through import Through, Verb


class ReadOnly(Through):
    """Reads go through; whatever would change something raises Refused before it touches anything."""

    def around(self, verb: Verb, key: str) -> NoReturn:
        """No effect is ever entered."""
        raise Refused(
            f"{self.name}: was about to {verb} {key}, but this run only looks", cure="use `reconcile --apply` to change anything"
        )
