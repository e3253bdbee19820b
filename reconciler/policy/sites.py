"""Where targets lie: two in one place hold one copy, whatever they are called and however they are written."""

from collections.abc import Mapping, Sequence
from itertools import combinations
from pathlib import Path

from reconciler.policy.kinds import Kinds
from reconciler.policy.model import DatabasePolicy, Policy

ONE_PLACE_CURE = "give it a folder or prefix that is neither inside the other nor around it"


def sites_of(policy: Policy, kinds: Kinds, base: Path) -> Mapping[str, str]:
    """Target → its site, for kinds that tell one. Follows links of this machine's folders, and asks no store."""
    telling = {kind.settings: kind.site for kind in kinds.targets if kind.site is not None}
    return {name: telling[type(target)](target, base) for name, target in policy.targets.items() if type(target) in telling}


def shared_sites(names: Sequence[str], sites: Mapping[str, str]) -> Mapping[str, str]:
    """Each target that lies where an earlier one does, or inside it, or around it → the earlier one."""
    found: dict[str, str] = {}
    for first, second in combinations([name for name in dict.fromkeys(names) if name in sites], 2):
        one, other = (sites[name].rstrip("/") + "/" for name in (first, second))
        if one.startswith(other) or other.startswith(one):
            found.setdefault(second, first)
    return found


def in_order(database: DatabasePolicy) -> tuple[str, ...]:
    """All targets that a database uses, the home first."""
    return tuple(dict.fromkeys((database.home, *database.dumps.targets)))


def one_place(first: str) -> str:
    """What is said of a target that shares its place with another."""
    return f"it shares its place with {first}: a second copy there would be none"
