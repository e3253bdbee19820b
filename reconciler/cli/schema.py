"""Print the JSON schemas: of the policy, and of all that is printed with --format json. They are the contract.

examples:
  reconcile schema > backup-policy.v1.schema.json
  reconcile schema plan
  reconcile schema --write schemas/           all of them, one file each
  reconcile schema --reference > docs/policy.md
"""

import argparse
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import msgspec

from reconciler.cli.fitting import NO_DATABASE, NO_POLICY, ONE_FORMAT, Only
from reconciler.cli.frame import Call

FITS = (
    NO_POLICY,
    NO_DATABASE,
    ONE_FORMAT,
    Only(("NAME",), "one schema, and --write is for all of them", lambda typed: typed.write is None),
    Only(("NAME",), "a schema, and --reference is for the policy's keys", lambda typed: not typed.reference),
    Only(("--write",), "schemas, and --reference prints", lambda typed: not typed.reference),
)


def register(parser: argparse.ArgumentParser) -> None:
    """Its options."""
    parser.add_argument(
        "name",
        metavar="NAME",
        nargs="?",
        choices=sorted(SCHEMAS),
        help=f"which one, of {', '.join(sorted(SCHEMAS))} (default: policy)",
    )
    parser.add_argument("--write", metavar="FOLDER", type=Path, help="write all of them into a folder")
    parser.add_argument("--reference", action="store_true", help="print the policy's keys for people instead, as Markdown")


def run(call: Call) -> int:
    """Made from the structs that are encoded and decoded."""
    from reconciler.cli.files import write_whole

    if call.arguments.reference:
        call.answer(reference())
        return 0
    if call.arguments.write is None:
        call.answer_as_json(text(call.arguments.name or "policy"))
        return 0
    for name in SCHEMAS:
        write_whole(call.arguments.write / file_name(name), text(name).encode())
    call.say(f"{len(SCHEMAS)} schemas written to {call.arguments.write}")
    return 0


def file_name(name: str) -> str:
    """As committed in `schemas/`."""
    return "backup-policy.v1.schema.json" if name == "policy" else f"{name}.v1.schema.json"


def text(name: str) -> str:
    """One schema, pretty."""
    return json.dumps(SCHEMAS[name](), indent=2, ensure_ascii=False) + "\n"


def reference() -> str:
    """The policy's keys, for people."""
    from reconciler.policy.reference import markdown

    return markdown(_policy())


def _policy() -> Mapping[str, Any]:
    from reconciler.connect import KINDS
    from reconciler.policy.schema import schema

    return schema(KINDS)


def _plan() -> Mapping[str, Any]:
    from reconciler.planning.render import PlanDocument

    return msgspec.json.schema(PlanDocument)


def _apply() -> Mapping[str, Any]:
    from reconciler.cli.apply import ApplyDocument

    return msgspec.json.schema(ApplyDocument)


def _status() -> Mapping[str, Any]:
    from reconciler.cli.status import StatusDocument

    return msgspec.json.schema(StatusDocument)


def _validate() -> Mapping[str, Any]:
    from reconciler.cli.validate import ValidateDocument

    return msgspec.json.schema(ValidateDocument)


def _doctor() -> Mapping[str, Any]:
    from reconciler.cli.doctor import DoctorDocument

    return msgspec.json.schema(DoctorDocument)


def _backups() -> Mapping[str, Any]:
    from reconciler.cli.backups import BackupsDocument

    return msgspec.json.schema(BackupsDocument)


def _keys() -> Mapping[str, Any]:
    from reconciler.cli.keys import KeysDocument

    return msgspec.json.schema(KeysDocument)


def _verify() -> Mapping[str, Any]:
    from reconciler.cli.backups_verify import VerifyDocument

    return msgspec.json.schema(VerifyDocument)


def _evidence() -> Mapping[str, Any]:
    from reconciler.world.evidence import Evidence

    return msgspec.json.schema(Evidence)


def _manifest() -> Mapping[str, Any]:
    from reconciler.backups.manifest import Manifest

    return msgspec.json.schema(Manifest)


def _log() -> Mapping[str, Any]:
    from reconciler.cli.log import Line

    return msgspec.json.schema(Line)


SCHEMAS: Mapping[str, Callable[[], Mapping[str, Any]]] = {
    "policy": _policy,
    "plan": _plan,
    "apply": _apply,
    "status": _status,
    "validate": _validate,
    "doctor": _doctor,
    "backups": _backups,
    "keys": _keys,
    "manifest": _manifest,
    "verify": _verify,
    "evidence": _evidence,
    "log": _log,
}
