"""Keys that may do what docs/s3.md says and no more: the store judges each request by that very document."""

from collections.abc import Collection
from functools import cache
from pathlib import Path
from secrets import token_hex
from typing import Any, Final

import boto3
import msgspec

from reconciler.sandbox.s3 import REGION

PAGE: Final = Path(__file__).parents[2] / "docs" / "s3.md"
BUCKET, PREFIX = "backups-hotel", "postgres/"
"""As the page writes them."""


class Statement(msgspec.Struct, frozen=True, forbid_unknown_fields=True, rename="pascal"):
    """Of a policy document."""

    sid: str
    effect: str
    action: str | list[str]
    resource: str | list[str]

    @property
    def actions(self) -> list[str]:
        return [self.action] if isinstance(self.action, str) else self.action


class Document(msgspec.Struct, frozen=True, forbid_unknown_fields=True, rename="pascal"):
    """A policy document."""

    version: str
    statement: list[Statement]


def page() -> Document:
    """The document as the page has it."""
    return msgspec.json.decode(PAGE.read_text().partition("```json\n")[2].partition("```")[0], type=Document)


def actions(*sids: str) -> list[str]:
    """Of these statements."""
    return [action for statement in page().statement if statement.sid in sids for action in statement.actions]


def document(bucket: str, prefix: str, *sids: str, without: Collection[str] = ()) -> str:
    """Those statements of the page, for that bucket and prefix."""
    kept = [
        msgspec.structs.replace(statement, action=[action for action in statement.actions if action not in without])
        for statement in page().statement
        if statement.sid in sids
    ]
    assert set(sids) == {statement.sid for statement in kept}
    chosen = Document(version=page().version, statement=[statement for statement in kept if statement.action])
    return msgspec.json.encode(chosen).decode().replace(BUCKET, bucket).replace(f"{bucket}/{PREFIX}", f"{bucket}/{prefix}")


class Keys(msgspec.Struct, frozen=True):
    """Of one account."""

    access_key_id: str
    secret_access_key: str


def new_keys(endpoint: str, admin: Keys, *texts: str) -> Keys:
    """Of an account that nobody else uses and that may do what these policy documents say."""
    iam, name = _iam(endpoint, admin), f"user-{token_hex(6)}"
    iam.create_user(UserName=name)
    made = iam.create_access_key(UserName=name)["AccessKey"]
    for number, text in enumerate(texts):
        policy = iam.create_policy(PolicyName=f"{name}-{number}", PolicyDocument=text)["Policy"]
        iam.attach_user_policy(UserName=name, PolicyArn=policy["Arn"])
    return Keys(made["AccessKeyId"], made["SecretAccessKey"])


@cache
def _iam(endpoint: str, admin: Keys) -> Any:
    session = boto3.session.Session(admin.access_key_id, admin.secret_access_key, region_name=REGION)
    return session.client("iam", endpoint_url=endpoint)
