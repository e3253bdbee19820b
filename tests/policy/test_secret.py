"""References lead to a value or to a clear refusal, and what they reveal is never printed."""

import copy
import pickle
from pathlib import Path

import msgspec
import pytest

from reconciler.errors import Refused
from reconciler.policy.redaction import Redactor
from reconciler.policy.secret import Reference, Revealed, Secret, Surroundings, Text

FIELD = "databases.hotel.source.url"


@pytest.fixture
def surroundings(tmp_path: Path) -> Surroundings:
    """A policy's folder and an environment with one secret in each."""
    (tmp_path / "key").write_bytes(b"from-a-file\n")
    return Surroundings(base=tmp_path, environ={"URL": "from-the-environment", "EMPTY": ""}, redactor=Redactor())


@pytest.mark.parametrize(
    ("written", "expected"),
    [("${URL}", "from-the-environment"), ({"file": "key"}, "from-a-file")],
)
def test_a_secret(written: object, expected: str, surroundings: Surroundings) -> None:
    """It is found where the reference says, and the redactor knows it from then on."""
    revealed = Secret.parse(written).reveal(surroundings, field=FIELD)

    assert expected == revealed.expose()
    assert surroundings.redactor.redact(f"<{expected}>") == "<***>"


def test_a_secret_before_it_is_revealed(surroundings: Surroundings) -> None:
    """Reading a policy asks neither environment nor files."""
    secret = Secret.parse("${NOT_THERE}")

    assert repr(secret) == "Secret(${NOT_THERE})"
    assert surroundings.redactor.redact("from-a-file") == "from-a-file"


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        ("eu-west-1", "eu-west-1"),
        ("${URL}", "from-the-environment"),
        ("${NOT_THERE:-eu}", "eu"),
        ("${EMPTY:-eu}", "eu"),
        ("${URL:-eu}", "from-the-environment"),
        ({"file": "key"}, "from-a-file"),
    ],
)
def test_a_text(written: object, expected: str, surroundings: Surroundings) -> None:
    """It is what is written, or what the reference leads to, or the default."""
    assert expected == Text.parse(written).reveal(surroundings, field=FIELD)


@pytest.mark.parametrize("name", ["NOT_THERE", "EMPTY"])
def test_a_variable_that_is_not_set(name: str, surroundings: Surroundings) -> None:
    """Field and variable are named; empty counts as not set."""
    with pytest.raises(Refused) as caught:
        Secret.parse(f"${{{name}}}").reveal(surroundings, field=FIELD)

    assert str(caught.value) == f"{FIELD}: the environment variable {name} is not set or empty"
    assert caught.value.cure == f"set {name}"


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (None, "No such file"),
        (b"", "is empty"),
        (b"\n", "is empty"),
        (b"top\xffsecret", "is not UTF-8 text"),
        (b"top\0secret", "is not UTF-8 text"),
        (b"topsecret" * 8000, "is larger than 64 KiB"),
    ],
)
def test_a_file_without_a_secret(content: bytes | None, reason: str, surroundings: Surroundings) -> None:
    """Field and file are named, and nothing of the content is, in the chain of causes neither."""
    if content is not None:
        (surroundings.base / "bad").write_bytes(content)

    with pytest.raises(Refused, match=reason) as caught:
        Secret.parse({"file": "bad"}).reveal(surroundings, field=FIELD)

    told = f"{caught.value} {caught.value.cure} {caught.value.__cause__!r} {caught.value.__context__!r}"
    assert FIELD in told
    assert str(surroundings.base / "bad") in told
    assert "top" not in told


def test_a_folder_as_file(surroundings: Surroundings) -> None:
    """It is refused like a file that is not there."""
    with pytest.raises(Refused, match="Is a directory"):
        Secret.parse({"file": "."}).reveal(surroundings, field=FIELD)


@pytest.mark.parametrize(("content", "expected"), [(b"x\n", "x"), (b"x\r\n", "x"), (b"x\n\n", "x\n"), (b" x ", " x ")])
def test_the_end_of_a_file(content: bytes, expected: str, surroundings: Surroundings) -> None:
    """One newline is an editor's; all else belongs to the secret."""
    (surroundings.base / "key").write_bytes(content)

    assert expected == Secret.parse({"file": "key"}).reveal(surroundings, field=FIELD).expose()


NEARLY_REFERENCES = ["hunter2", "", "x${URL}", "${URL}x", "${1X}", "${}", "${URL}\n"]
NO_TEXT: list[object] = [7, None, [], {"file": ""}, {"file": 1}, {"file": "a", "b": "c"}]


@pytest.mark.parametrize("written", [*NEARLY_REFERENCES, *NO_TEXT])
def test_what_is_no_reference(written: object) -> None:
    """A secret's field refuses it without a word of it."""
    with pytest.raises(ValueError, match=r"a secret is written as a reference, \$\{NAME\} or \{file: path\}, never itself"):
        Secret.parse(written)


def test_a_secret_with_a_default() -> None:
    """A default would be a secret in the policy."""
    with pytest.raises(ValueError, match="takes no default"):
        Secret.parse("${URL:-hunter2}")


@pytest.mark.parametrize("written", ["", "x${URL}", 7, None, {"file": ""}])
def test_what_is_no_text(written: object) -> None:
    """A text's field refuses it."""
    with pytest.raises(ValueError, match=r"belongs here|is the whole value"):
        Text.parse(written)


def test_what_is_revealed() -> None:
    """However it is printed, it is three stars."""
    revealed = Revealed("hunter2")

    assert {str(revealed), repr(revealed), f"{revealed}", f"{revealed!s:>3}", str([revealed])[1:-1]} == {"***"}
    assert msgspec.json.encode({"password": revealed}, enc_hook=str) == b'{"password":"***"}'


@pytest.mark.parametrize("serialise", [pickle.dumps, copy.deepcopy, msgspec.json.encode])
def test_serialising_what_is_revealed(serialise: object) -> None:
    """Nothing does it by accident."""
    assert callable(serialise)
    with pytest.raises(TypeError):
        serialise(Revealed("hunter2"))


def test_equality() -> None:
    """References are compared by where they lead."""
    assert Secret.parse("${A}") == Secret(Reference(kind="variable", name="A"))
    assert len({Secret.parse("${A}"), Secret.parse("${A}"), Secret.parse({"file": "A"})}) == 2
    assert len({Text.parse("a"), Text.parse("a"), Text.parse("${a}")}) == 2
    assert str(Text.parse({"file": "a"})) == "{file: a}"


@pytest.mark.parametrize(
    "text",
    [
        "password authentication failed for s3cr3t/pass+word %",
        'connection "postgres://user:s3cr3t%2Fpass%2Bword%20%25@db.internal:5432/hotel" failed',
        "PGPASSWORD=s3cr3t/pass+word %",
        "s3cr3t%2Fpass%2Bword+%25",
    ],
)
def test_a_password_within_a_url(text: str) -> None:
    """It is hidden alone too, encoded and decoded, and the rest of the sentence stays."""
    redactor = Redactor()
    redactor.learn("postgres://user:s3cr3t%2Fpass%2Bword%20%25@db.internal:5432/hotel?application_name=a@b")

    redacted = redactor.redact(text)

    assert "***" in redacted
    assert "s3cr3t" not in redacted
    assert "word" not in redacted.removeprefix("password authentication")


@pytest.mark.parametrize(
    "url",
    [
        "postgres://u:p%ssw@@host:badport/x",
        "postgres://u:p%ssw@host/x@y",
        "postgres://u:p%ssw",
        "host=h password='p%ssw' user=u",
        "host=h password=p%ssw",
    ],
)
def test_a_malformed_address(url: str) -> None:
    """Whatever a library makes of it, the password is hidden."""
    redactor = Redactor()
    redactor.learn(url)

    assert "p%ssw" not in redactor.redact(f'invalid port "badport" in "{url}"; user u with p%ssw')


def test_an_address_without_a_password() -> None:
    """Nothing of it is hidden alone: messages must be able to name host, port and database."""
    redactor = Redactor()
    redactor.learn("postgres://db.internal:5432/hotel")

    assert redactor.redact("db.internal:5432/hotel") == "db.internal:5432/hotel"


@pytest.mark.parametrize("form", ['sa"id\\so', 'sa\\"id\\\\so', "s\\xe9same\\n"])
def test_a_secret_within_quotes(form: str) -> None:
    """It is hidden as JSON and Python quote it."""
    redactor = Redactor()
    redactor.learn('sa"id\\so')
    redactor.learn("s\xe9same\n")

    assert redactor.redact(f"<{form}>") in {"<***>", "<s\\xe9same\\n>"}


def test_a_short_secret() -> None:
    """It is hidden where it stands alone, and leaves words whole."""
    redactor = Redactor()
    redactor.learn("a")

    assert redactor.redact("a database, password a!") == "*** database, password ***!"


def test_one_secret_within_another() -> None:
    """The longer one is hidden whole."""
    redactor = Redactor()
    redactor.learn("hunter")
    redactor.learn("hunter2hunter")

    assert redactor.redact("hunter2hunter hunter") == "*** ***"


def test_an_empty_secret() -> None:
    """It hides nothing."""
    redactor = Redactor()
    redactor.learn("")

    assert redactor.redact("all is said") == "all is said"
