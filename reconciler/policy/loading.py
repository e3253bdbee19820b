"""Text in git → Policy: read, compared with the schema, cross-checked, converted. All faults are told at once."""

import hashlib
from collections.abc import Mapping
from itertools import islice
from pathlib import Path
from typing import Any, Final, TypeVar

import msgspec

from reconciler.errors import BadPolicy, Finding
from reconciler.policy.agreement import disagreements, merged
from reconciler.policy.document import LARGEST_BYTES, parse
from reconciler.policy.fields import decode
from reconciler.policy.histories import history_faults
from reconciler.policy.kinds import Kind, Kinds
from reconciler.policy.model import (
    Age,
    Branches,
    Check,
    DatabasePolicy,
    Dumps,
    Encryption,
    Metadata,
    Objectives,
    Pitr,
    Policy,
    SignedBy,
    Snapshots,
)
from reconciler.policy.nodes import Node, Places, child, findings, plain
from reconciler.policy.schema import schema
from reconciler.policy.units import TimeZone

T = TypeVar("T")

MOST_FAULTS: Final = 100
"""That many of a kind are told; who has more has another kind of file, and each costs a search for what may have been meant."""


def read(path: Path, kinds: Kinds) -> Policy:
    """The policy in this file. Raises BadPolicy with every fault."""
    return load(read_text(path), kinds, path=path)


def read_text(path: Path) -> bytes:
    """The file's bytes, at most one more than a policy may have. Raises BadPolicy when there is no such file to read."""
    try:
        with path.open("rb") as file:
            return file.read(LARGEST_BYTES + 1)
    except FileNotFoundError as error:
        raise _unreadable(path, "does not exist", "make one with `reconcile init`, or name another with --policy FILE") from error
    except IsADirectoryError as error:
        raise _unreadable(path, "is a folder", "name the policy file in it with --policy FILE") from error
    except (OSError, ValueError) as error:
        why = error.strerror if isinstance(error, OSError) else "it is no name of a file"
        raise _unreadable(path, f"can't be read: {why}", "name a file that this user may read") from error


def load(text: bytes, kinds: Kinds, *, path: Path) -> Policy:
    """The policy that this text says; `path` is the file's, for messages and for what is relative to it. Raises BadPolicy."""
    # Imported here, since it loads jsonschema, which a command that reads no policy need not wait for.
    from reconciler.policy.checking import check

    root, faults = parse(text, str(path))
    faults += islice(check(root, schema(kinds)), MOST_FAULTS)
    faults += islice(disagreements(root), MOST_FAULTS)
    if faults:
        found = findings(str(path), faults)
        if len(faults) >= MOST_FAULTS:
            found.append(Finding(severity="error", where=str(path), what="has more faults than these", cure="mend these first"))
        raise BadPolicy(found)
    policy = _policy(root, text, kinds, path)
    contradictions = [
        Finding(severity="error", where=places(text, path).of(where), what=what, cure=cure)
        for where, what, cure in islice(history_faults(policy), MOST_FAULTS)
    ]
    if contradictions:
        raise BadPolicy(contradictions)
    return policy


def _policy(root: Node, text: bytes, kinds: Kinds, path: Path) -> Policy:
    document = plain(root)
    databases = child(root, "databases")
    return Policy(
        version=1,
        metadata=_convert(document["metadata"], Metadata),
        path=path,
        digest=hashlib.sha256(text).hexdigest(),
        targets={name: _settings(written, kinds.targets, "type") for name, written in document["targets"].items()},
        scratch=_settings(document["scratch"], kinds.scratches, "type") if "scratch" in document else None,
        databases={name: _database(name, plain(_whole(root, databases, name)), kinds) for name in document["databases"]},
    )


def places(text: bytes, path: Path) -> Places:
    """Where everything in a policy stands; what comes from the defaults stands there. For a text that `load` accepts."""
    root, _ = parse(text, str(path))
    databases = child(root, "databases")
    names = databases.value if databases is not None and isinstance(databases.value, Mapping) else {}
    whole = {name: _whole(root, databases, name) for name in names}
    values = root.value if isinstance(root.value, Mapping) else {}
    everything = Node(place=root.place, value={**values, "databases": Node(place=root.place, value=whole)})
    return Places(str(path), everything)


def _whole(root: Node, databases: Node | None, name: str) -> Node:
    return merged(root, child(databases, name) or root)


def _database(name: str, written: Mapping[str, Any], kinds: Kinds) -> DatabasePolicy:
    dumps = _convert(written["dumps"], Dumps)
    return DatabasePolicy(
        name=name,
        source=_settings(written["source"], kinds.providers, "provider"),
        home=written.get("home") or dumps.targets[0],
        timezone=TimeZone(written.get("timezone", "UTC")),
        encryption=_encryption(written.get("encryption")),
        signatures=_convert(written["signatures"], SignedBy) if "signatures" in written else None,
        objectives=_convert(written.get("objectives", {}), Objectives),
        dumps=dumps,
        checks=_convert(written.get("checks", []), tuple[Check, ...]),
        pitr=_convert(written["pitr"], Pitr) if "pitr" in written else None,
        snapshots=_convert(written["snapshots"], Snapshots) if "snapshots" in written else None,
        branches=_convert(written.get("branches", {}), Branches),
    )


def _encryption(written: object) -> Encryption | None:
    if isinstance(written, Mapping):
        return _convert(written, Age)
    return "none" if written else None


def _settings(written: Mapping[str, Any], kinds: tuple[Kind, ...], field: str) -> msgspec.Struct:
    kind = next(kind for kind in kinds if kind.type == written[field])
    return _convert(written, kind.settings)


def _convert(written: Any, kind: type[T]) -> T:
    # The schema is made of the same structs, so this never fails on what it has accepted; a property test holds the two together.
    return msgspec.convert(written, kind, dec_hook=decode)


def _unreadable(path: Path, what: str, cure: str) -> BadPolicy:
    return BadPolicy([Finding(severity="error", where=str(path), what=what, cure=cure)])
