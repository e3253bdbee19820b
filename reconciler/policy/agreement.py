"""What the parts of a policy must agree on and no schema can say: names that refer to something, what defaults may supply."""

from collections.abc import Iterator, Mapping
from contextlib import suppress
from itertools import islice

from reconciler.policy.nodes import Fault, Node, Path, child, merge, spell_key
from reconciler.policy.relation import Relation
from reconciler.policy.sentences import shown
from reconciler.policy.spelling import nearest
from reconciler.policy.timing import AUTO

MERGED = ("timezone", "encryption", "signatures", "objectives", "dumps", "pitr", "snapshots", "branches")
"""What defaults supply."""


def disagreements(root: Node) -> Iterator[Fault]:
    """All such faults. Whatever has not the right shape is passed over: the schema has its say on that."""
    targets = _mapping(child(root, "targets"))
    defaults = child(root, "defaults")
    if defaults is not None:
        yield from _unknown_targets(defaults, ("defaults",), targets)
    for name, database in _mapping(child(root, "databases")).items():
        if isinstance(database.value, Mapping):
            yield from _database(database, merged(root, database), ("databases", name), targets)


def merged(root: Node, database: Node) -> Node:
    """The database's node with the defaults under it."""
    defaults = child(root, "defaults")
    parts = {key: part for key in MERGED if (part := merge(child(defaults, key), child(database, key))) is not None}
    return Node(place=database.place, value={**_mapping(database), **parts}, keys=database.keys)


def _database(written: Node, whole: Node, path: Path, targets: Mapping[str, Node]) -> Iterator[Fault]:
    yield from _unknown_targets(written, path, targets)
    yield from _missing(whole, path)
    yield from _aimless(whole, path)
    yield from _filters(child(whole, "dumps"), (*path, "dumps"))
    yield from _worded(whole, path)
    yield from _checks(child(written, "checks"), (*path, "checks"))
    yield from _streamed(whole, path)
    chosen = [item for item in _items(child(child(whole, "dumps"), "targets")) if isinstance(item.value, str)]
    yield from _home(child(written, "home"), [str(item.value) for item in chosen], (*path, "home"), targets)
    away = [item.value for item in chosen if _is_away(targets.get(str(item.value)))]
    yield from _passwords(whole, path, away=bool(away))
    if away and child(whole, "encryption") is None:
        yield Fault(
            place=written.place,
            path=(*path, "encryption"),
            what=f"is missing, and {away[0]} is not a local target: whoever reads it reads the dumps",
            cure="name whom to encrypt to, as `reconcile keys new --age` prints it, or say it in words: encryption: none",
        )


def _passwords(whole: Node, path: Path, *, away: bool) -> Iterator[Fault]:
    """Verifiers let one guess at passwords: nobody but whoever holds a key may read them."""
    roles, encryption = child(child(whole, "dumps"), "roles"), child(whole, "encryption")
    if roles is not None and roles.value == "with_passwords" and away and child(encryption, "age_recipients") is None:
        what = "with_passwords keeps what passwords can be guessed from, and these backups leave this machine unencrypted"
        yield Fault(place=roles.place, path=(*path, "dumps", "roles"), what=what, cure="encrypt them, or write without_passwords")


def _unknown_targets(section: Node, path: Path, targets: Mapping[str, Node]) -> Iterator[Fault]:
    for position, item in enumerate(_items(child(child(section, "dumps"), "targets"))):
        if isinstance(item.value, str) and item.value not in targets:
            yield _unknown(item, (*path, "dumps", "targets", position), targets)


def _unknown(node: Node, path: Path, targets: Mapping[str, Node]) -> Fault:
    cure = nearest(str(node.value), targets) or (
        f"declared are {', '.join(map(spell_key, islice(targets, 12)))}" if targets else "declare it under targets"
    )
    return Fault(place=node.place, path=path, what=f"{shown(node.value)} is not a target", cure=cure)


def _missing(whole: Node, path: Path) -> Iterator[Fault]:
    dumps = child(whole, "dumps")
    if dumps is not None and not isinstance(dumps.value, Mapping):
        return
    for key, meant in (("schedule", "when dumps are taken"), ("targets", "where backups lie")):
        if child(dumps, key) is None:
            cure = f"say {meant}, here or under defaults.dumps"
            yield Fault(place=(dumps or whole).place, path=(*path, "dumps", key), what="is missing", cure=cure)


def _aimless(whole: Node, path: Path) -> Iterator[Fault]:
    """`auto` follows from an RPO."""
    schedule, objectives = child(child(whole, "dumps"), "schedule"), child(whole, "objectives")
    if schedule is None or schedule.value != AUTO:
        return
    if child(objectives, "rpo") is None and child(child(objectives, "disaster"), "rpo") is None:
        what = "auto is often enough for an RPO, and there is none"
        cure = "say one, as objectives: {rpo: 6h}, or write a cron schedule"
        yield Fault(place=schedule.place, path=(*path, "dumps", "schedule"), what=what, cure=cure)


def _streamed(whole: Node, path: Path) -> Iterator[Fault]:
    """What only a directory archive knows is not said of another."""
    dumps = child(whole, "dumps")
    kind = child(dumps, "format")
    if kind is not None and kind.value == "directory":
        return
    for key in ("jobs", "staging"):
        node = child(dumps, key)
        if node is not None:
            what = "is for format: directory; an archive of format custom is one stream, and touches no disk"
            yield Fault(place=node.place, path=(*path, "dumps", key), what=what, cure="leave it out, or say format: directory")


def _worded(whole: Node, path: Path) -> Iterator[Fault]:
    """Command lines are shown to everybody on the machine, so nothing is put into them."""
    hooks = child(child(whole, "dumps"), "hooks")
    for phase in ("before", "after"):
        for number, hook in enumerate(_items(child(hooks, phase))):
            for position, word in enumerate(_items(child(hook, "argv"))):
                if isinstance(word.value, str) and "${" in word.value:
                    yield Fault(
                        place=word.place,
                        path=(*path, "dumps", "hooks", phase, number, "argv", position),
                        what="is no place for a reference: whoever lists processes sees it",
                        cure="give it by env or stdin",
                    )
            for name, node in _mapping(child(hook, "env")).items():
                if name.startswith("RECONCILER_"):
                    what, where = "is what we say to a hook ourselves", (*path, "dumps", "hooks", phase, number, "env", name)
                    yield Fault(place=node.place, path=where, what=what, cure="choose another name")


def _filters(dumps: Node | None, path: Path) -> Iterator[Fault]:
    """Names that say two things of one table."""
    include, exclude, exclude_data = (_relations(dumps, key) for key in ("include", "exclude", "exclude_data"))
    if include and exclude:
        what, cure = (
            "stands beside include, and they are each other's opposite",
            "name what is dumped or what is not, in one list",
        )
        yield Fault(place=next(iter(exclude.values())).place, path=(*path, "exclude"), what=what, cure=cure)
    for name, node in exclude_data.items():
        if name in exclude:
            what = f"{shown(name)} is left out as a whole already"
            yield Fault(place=node.place, path=(*path, "exclude_data"), what=what, cure="name it in one of the two lists")
        elif include and name not in include:
            what = f"{shown(name)} is not dumped at all: include does not name it"
            yield Fault(place=node.place, path=(*path, "exclude_data"), what=what, cure="add it to include, or remove it here")


def _relations(dumps: Node | None, key: str) -> dict[str, Node]:
    """By name, however it was written; what is no name is the schema's to tell."""
    found = {}
    for item in _items(child(dumps, key)):
        with suppress(ValueError):
            found[str(Relation.parse(str(item.value)))] = item
    return found


def _checks(checks: Node | None, path: Path) -> Iterator[Fault]:
    seen: set[str] = set()
    for position, check in enumerate(_items(checks)):
        here = (*path, position)
        ways = [way for way in ("expect", "expect_secret") if child(check, way) is not None]
        if isinstance(check.value, Mapping) and len(ways) != 1:
            what = "says twice what is expected" if ways else "does not say what is expected"
            yield Fault(place=check.place, path=here, what=what, cure='write either expect: ">= 1" or expect_secret: ${NAME}')
        name = child(check, "name")
        if name is not None and isinstance(name.value, str):
            if name.value in seen:
                what = f"{shown(name.value)} is the name of another check too"
                yield Fault(place=name.place, path=(*here, "name"), what=what, cure="choose another")
            seen.add(name.value)


def _home(home: Node | None, chosen: list[str], path: Path, targets: Mapping[str, Node]) -> Iterator[Fault]:
    if home is None or not isinstance(home.value, str):
        return
    if home.value not in targets:
        yield _unknown(home, path, targets)
    elif chosen and home.value not in chosen:
        what = f"{shown(home.value)} is not among the targets of its dumps"
        yield Fault(place=home.place, path=path, what=what, cure=f"choose {' or '.join(chosen)}, or add it to dumps.targets")


def _is_away(target: Node | None) -> bool:
    kind = child(target, "type")
    return kind is not None and isinstance(kind.value, str) and kind.value != "local"


def _mapping(node: Node | None) -> Mapping[str, Node]:
    return node.value if node is not None and isinstance(node.value, Mapping) else {}


def _items(node: Node | None) -> list[Node]:
    is_list = node is not None and isinstance(node.value, list | tuple)
    return list(node.value) if is_list else []  # type: ignore[union-attr,arg-type]  # is_list narrows
