"""Write a first policy, from flags. It holds references to secrets, never secrets.

examples:
  reconcile init --name hotel --url-variable DATABASE_URL --bucket backups-hotel --region eu-west-1 --rpo 26h
  reconcile init --name hotel --url-variable DATABASE_URL --path /mnt/backups --schedule "0 */6 * * *" --rpo 7h
  reconcile init --name hotel --provider neon --api-key-variable NEON_API_KEY --bucket backups-hotel --region eu-west-1
"""

import argparse
from pathlib import Path

from reconciler.cli.files import write_whole
from reconciler.cli.fitting import NO_DATABASE, ONE_FORMAT, Only
from reconciler.cli.frame import Call
from reconciler.errors import Refused

Targets = dict[str, dict[str, str | bool | None]]
"""Each one's fields, by its name."""

TEMPLATE = """# yaml-language-server: $schema=./schemas/backup-policy.v1.schema.json
version: 1
metadata: {{name: {name}, owner: {owner}}}

targets:
{targets}

databases:
  {name}:
    source:{source}{encryption}
    objectives:
      rpo: {rpo}                     # the newest restore point is never older{disaster}
    dumps:
      schedule: "{schedule}"        # minute hour day month weekday, in UTC
      targets: [{names}]
      retention: {{keep_last: 3, keep_daily: 30, keep_weekly: 8, keep_monthly: 12}}
"""
OF_NEON = ("--api-key-variable", "--api-host", "--project", "--branch", "--source-database", "--role")
FITS = (
    NO_DATABASE,
    ONE_FORMAT,
    Only(
        ("--url-variable",),
        "`--provider postgres`: of Neon's database, the url is found by its key",
        lambda typed: typed.provider != "neon",
    ),
    Only(OF_NEON, "`--provider neon`", lambda typed: bool(typed.provider == "neon")),
    Only(("--region", "--endpoint"), "a target of S3, which --bucket names", lambda typed: bool(typed.bucket)),
    Only(
        ("--prefix",),
        "a target that is a bucket, a container or a repository",
        lambda typed: bool(typed.bucket or typed.gcs_bucket or typed.azure or typed.git_remote),
    ),
)


def register(parser: argparse.ArgumentParser) -> None:
    """Its options."""
    parser.add_argument("--name", default="main", help="what the database is called here (default: main)")
    parser.add_argument("--owner", default="nobody-yet", help="who is asked when something is wrong")
    parser.add_argument("--url-variable", default="DATABASE_URL", metavar="NAME", help="the environment variable with its url")
    parser.add_argument("--provider", choices=("postgres", "neon"), default="postgres", help="who hosts it (default: postgres)")
    parser.add_argument(
        "--api-key-variable", default="NEON_API_KEY", metavar="NAME", help="the environment variable with Neon's key"
    )
    parser.add_argument("--api-host", metavar="URL", help="where Neon's API is, if not at Neon")
    parser.add_argument("--project", metavar="ID", help="of Neon; found by the key where it has just one")
    parser.add_argument("--branch", help="of that project (default: its default branch)")
    parser.add_argument("--source-database", metavar="NAME", help="in that branch; found where there is just one")
    parser.add_argument("--role", help="that dumps (default: the database's owner)")
    parser.add_argument("--bucket", help="an S3 bucket as target")
    parser.add_argument("--prefix", default="", help="below which keys in the bucket or container")
    parser.add_argument("--region", help="of the bucket")
    parser.add_argument("--endpoint", help="of an S3-compatible store that is not AWS")
    parser.add_argument("--gcs-bucket", metavar="NAME", help="a bucket of Google Cloud Storage as target")
    parser.add_argument("--azure", metavar="ACCOUNT/CONTAINER", help="a container of Azure Blob Storage as target")
    parser.add_argument("--git-remote", metavar="URL", help="a git repository with LFS to push to, beside another target")
    parser.add_argument("--path", help="a folder as target (default: ./.backups where no other target is given)")
    parser.add_argument("--schedule", default="0 2 * * *", help='when to dump, as cron (default: "0 2 * * *")')
    parser.add_argument("--rpo", default="26h", help="how old the newest restore point may be (default: 26h)")
    parser.add_argument("--force", action="store_true", help="write over an existing policy")


def run(call: Call) -> int:
    """The policy is validated before it is written."""
    from reconciler.connect import KINDS
    from reconciler.policy.loading import load

    arguments, path = call.arguments, Path(call.arguments.policy)
    if path.exists() and not arguments.force:
        raise Refused(f"{path} exists", cure="name another with --policy, or add --force to write over it")
    source, found = _neon(call) if arguments.provider == "neon" else _postgres(arguments)
    text = _text(arguments, source)
    load(text.encode(), KINDS, path=path)
    write_whole(path, text.encode())
    call.answer(found + f"{path} written\n  {call.another('validate')}\n  {call.another('plan')}")
    return 0


def _postgres(arguments: argparse.Namespace) -> tuple[str, str]:
    """The source, and nothing to tell of it: it is not looked at."""
    return f' {{provider: postgres, url: "${{{arguments.url_variable}}}"}}', ""


def _neon(call: Call) -> tuple[str, str]:
    """The source that the key leads to, and what was found, for people."""
    from reconciler.policy.secret import Revealed
    from reconciler.policy.units import format_duration
    from reconciler.providers.neon.finding import Asked, find
    from reconciler.providers.neon.settings import API_HOST
    from reconciler.world.clock import SystemClock

    arguments = call.arguments
    key = call.environ.get(arguments.api_key_variable, "").strip()
    if not key:
        cure = "set it, or name another with --api-key-variable; Neon's console makes keys, one of the project alone is enough"
        raise Refused(f"the environment variable {arguments.api_key_variable} is not set", cure=cure)
    call.redactor.learn(key)
    asked = Asked(project=arguments.project, branch=arguments.branch, database=arguments.source_database, role=arguments.role)
    found = find(arguments.api_host or API_HOST, Revealed(key), asked, SystemClock())
    fields = {
        "project": found.project,
        "branch": found.branch,
        "database": found.database,
        "role": found.role,
        "api_key": f"${{{arguments.api_key_variable}}}",
        "api_host": arguments.api_host,
    }
    written = [f"      {name}: {_quoted(value)}" for name, value in fields.items() if value]
    window = format_duration(found.window)
    pitr = (
        [f"    pitr: {{window: {window}}}            # of Neon's own history: what the project keeps now"] if found.window else []
    )
    named = f"project {found.project} ({found.project_name}), branch {found.branch}, database {found.database}"
    return "\n".join(["", "      provider: neon", *written, *pitr]), f"{named}, role {found.role}\n"


def _text(arguments: argparse.Namespace, source: str) -> str:
    away = _away(arguments)
    disk: Targets = {"disk": {"type": "local", "path": arguments.path or "./.backups"}}
    targets = away | disk if arguments.path else away
    if away.keys() <= {"repository"}:
        targets = disk | away  # the first is home, and a repository would keep every renewal of the lease
    return TEMPLATE.format(
        name=arguments.name,
        owner=_quoted(arguments.owner),
        source=source,
        targets="\n".join(_line(name, fields) for name, fields in targets.items()),
        names=", ".join(targets),
        schedule=arguments.schedule,
        rpo=arguments.rpo,
        encryption="\n    encryption: none                # dumps are stored in clear text, said in words" if away else "",
        disaster=f"\n      disaster: {{rpo: {arguments.rpo}}}    # nor is the newest copy outside the source's failure domain"
        if away
        else "",
    )


def _away(arguments: argparse.Namespace) -> Targets:
    """The targets that are not on this machine, by name."""
    targets: Targets = {}
    if arguments.bucket:
        targets["primary"] = {
            "type": "s3",
            "bucket": arguments.bucket,
            "prefix": arguments.prefix,
            "region": arguments.region,
            "endpoint": arguments.endpoint,
        }
    if arguments.gcs_bucket:
        targets["google"] = {"type": "gcs", "bucket": arguments.gcs_bucket, "prefix": arguments.prefix}
    if arguments.azure:
        account, _, container = arguments.azure.partition("/")
        targets["azure"] = {"type": "azure", "account": account, "container": container, "prefix": arguments.prefix}
    if arguments.git_remote:
        targets["repository"] = {
            "type": "git_lfs",
            "path": "./backups.git",
            "remote": arguments.git_remote,
            "push": True,
            "prefix": arguments.prefix,
        }
    return targets


def _line(name: str, fields: dict[str, str | bool | None]) -> str:
    written = ", ".join(f"{key}: {_quoted(value)}" for key, value in fields.items() if value)
    return f"  {name}: {{{written}}}"


def _quoted(text: object) -> str:
    """As a YAML scalar, whatever is in it."""
    import json

    return json.dumps(text, ensure_ascii=False)
