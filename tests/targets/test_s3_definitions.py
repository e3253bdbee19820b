"""What botocore is told of S3 is what its files say, however they are read."""

import json
from pathlib import Path

import pytest
from botocore.exceptions import DataNotFoundError, UnknownServiceError
from botocore.loaders import JSONFileLoader, Loader

from reconciler.errors import Refused
from reconciler.targets.s3_bucket import Access, make_client
from reconciler.targets.s3_definitions import definitions


def afresh() -> Loader:
    """Clients work over what they were told of their service."""
    return definitions.__wrapped__(None)


@pytest.mark.parametrize("kind", ["service-2", "endpoint-rule-set-1", "paginators-1", "waiters-2"])
@pytest.mark.parametrize("service", ["s3", "sts", "sso-oidc"])
def test_a_service(service: str, kind: str) -> None:
    """Of S3, and of those that hand out credentials: all of it, in the files' order."""
    assert _read(Loader(), service, kind) == _read(afresh(), service, kind)


@pytest.mark.parametrize("name", ["endpoints", "partitions", "_retry", "sdk-default-configuration"])
def test_what_is_of_no_service(name: str) -> None:
    assert json.dumps(Loader().load_data(name)) == json.dumps(afresh().load_data(name))


def _read(loader: Loader, service: str, kind: str) -> str:
    """Its text again; or that there is none."""
    try:
        return json.dumps(loader.load_service_model(service, kind))
    except UnknownServiceError as error:
        return type(error).__name__


def test_no_other_service_is_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    """There are 400 of them, and a client is of one."""
    looked: list[str] = []

    def exists(self: JSONFileLoader, file_path: str) -> bool:
        looked.append(Path(file_path).parts[-3])
        return theirs(self, file_path)

    theirs = JSONFileLoader.exists
    monkeypatch.setattr(JSONFileLoader, "exists", exists)
    afresh().load_service_model("s3", "paginators-1")

    assert {"s3"} == set(looked)


def test_a_service_that_is_not_there() -> None:
    """Is unknown, as ever: botocore does without some files by that."""
    with pytest.raises(UnknownServiceError, match="no-such-service"):
        definitions(None).load_service_model("no-such-service", "service-2")
    with pytest.raises(UnknownServiceError, match="s3"):
        definitions(None).load_service_model("s3", "no-such-kind")
    with pytest.raises(DataNotFoundError, match="no-such-file"):
        definitions(None).load_data("no-such-file")


def test_files_of_ones_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Come before botocore's, from where AWS's own tools look; one that can't be read is no bug of ours."""
    file = tmp_path / "partitions.json"
    file.write_text('{"partitions": []}')
    assert {"partitions": []} == definitions(str(tmp_path)).load_data("partitions")

    file.write_text("{")
    monkeypatch.setenv("AWS_DATA_PATH", f"{tmp_path}/")
    with pytest.raises(Refused, match="no S3 client can be made: JSONDecodeError"):
        make_client("offsite", Access(bucket="b", endpoint="http://store.example"))
