"""A file that is no policy at all is refused quickly, with a place."""

import os
import sys
import time
from pathlib import Path

import pytest

from reconciler.errors import BadPolicy, Finding
from reconciler.policy import read
from tests.policy.kinds import GOOD, KINDS, faults, told

MOST = 8.0
"""Times a plain piece of work that takes a quarter of a second or less: a machine that is busy slows both."""
TRIES = 3
"""More, where it was too long: what is slow is slow each time, and a neighbour is not."""
BOMB = b"a: &a [x,x,x,x,x,x,x,x,x]\n" + b"".join(
    b"%c: &%c [%s]\n" % (letter, letter, b",".join([b"*%c" % (letter - 1)] * 9)) for letter in range(ord("b"), ord("k"))
)
CHAIN = b"a0: &a0 [x]\n" + b"".join(b"a%d: &a%d [*a%d]\n" % (n, n, n - 1) for n in range(1, 2000))
NESTED_SPACES = b"".join(b" " * n + b"a:\n" for n in range(1000))
TARGETS = b"".join(b"  abcdefghik%d: {type: local, path: x}\n" % n for n in range(1000))
UNKNOWN_NAMES = (
    b"targets:\n" + TARGETS + b"databases:\n" + b"".join(b"  k%d: {home: abcdefghij%d}\n" % (n, n) for n in range(9000))
)
UNIQUE = b"databases:\n  a: {dumps: {targets: [" + b", ".join(b"{a: %d}" % n for n in range(15_000)) + b"]}}"
ZONES = b"databases:\n" + b"".join(b"  k%d: {timezone: Europe/Madird%d}\n" % (n, n) for n in range(9000))

HOSTILE = {
    "alias bomb": (BOMB, ":6:8", "holds more than 100000 values, aliases counted as what they stand for"),
    "chain of aliases": (CHAIN, ":64:12", "is nested deeper than 64 levels"),
    "alias of itself": (b"a: &a [*a]", ":1:8  a[0]", "is an alias of something that is not complete before it"),
    "alias of nothing": (b"a: *b", ":1:4  a", "is an alias of something that is not complete before it"),
    "python tag": (b"version: !!python/object/apply:os.system [x]", ":1:10  version", "has a tag (!); a policy has none"),
    "standard tag": (b"version: !!int 1", ":1:10  version", "has a tag (!); a policy has none"),
    "empty tag": (b"version: ! 1", ":1:10  version", "has a tag (!); a policy has none"),
    "tag directive": (b"%TAG ! tag:x,2000:\n---\nversion: !b 1", ":3:10  version", "has a tag (!); a policy has none"),
    "merge key": (b"a: &a {x: 1}\nb: {<<: *a}", ":2:5  b.<<", "merge keys are not of YAML 1.2"),
    "duplicate key": (b"version: 1\nversion: 1", ":2:1  version", "stands twice; first in line 1"),
    "number as key": (b"1: x", ":1:1", "has a key that is not text"),
    "null as key": (b"null: x", ":1:1", "has a key that is not text"),
    "truth as key": (b"true: x", ":1:1", "has a key that is not text"),
    "list as key": (b"? [a]\n: x", ":1:3", "has a key that is not text"),
    "two documents": (b"version: 1\n---\nversion: 1", ":2:1", "a second document begins here"),
    "empty": (b"", ":1:1", "is empty"),
    "comments only": (b"# nothing\n", ":1:1", "is empty"),
    "a list": (b"- a", ":1:1", "is a list"),
    "a word": (b"hello", ":1:1", "is text"),
    "NUL": (b"version: \0", ":1:10", "holds the control character U+0000"),
    "escaped NUL": (b'version: "\\0"', ":1:10  version", "holds a control character"),
    "bell": (b"version: 1\n# \a", ":2:3", "holds the control character U+0007"),
    "UTF-16": ("version: 1".encode("utf-16"), ":1:1", "is UTF-16 or UTF-32 text"),
    "UTF-16 without a mark": ("version: 1".encode("utf-16-le"), ":1:2", "holds the control character U+0000"),
    "Latin-1": (b"version: 1\nowner: Jos\xe9", ":2:11", "is not UTF-8 text"),
    "surrogate": (b'version: "\\ud800"', ":1:", "is not YAML"),
    "beyond Unicode": (b'version: "\\U00110000"', ":1:", "is not YAML"),
    "ten megabytes": (b"x" * 10_000_000, ":1:1", "is larger than 1 MiB"),
    "a megabyte of items": (b"- a\n" * 260_000, ":100000:3", "holds more than 100000 values"),
    "a megabyte of brackets": (b"[" * 1_000_000, ":1:", "is nested deeper than 64 levels"),
    "a megabyte of braces": (b"{" * 1_000_000, ":1:", "is nested deeper than 64 levels"),
    "a megabyte of dashes": (b"- " * 500_000, ":1:", "is nested deeper than 64 levels"),
    "nested by spaces": (NESTED_SPACES, ":65:65", "is nested deeper than 64 levels"),
    "an open quote": (b'version: "' + b"a" * 1_000_000, ":1:", "the text ends inside quotes"),
    "a tab": (b"a:\n\tb: c", ":2:1", "a value can't begin like this"),
    "an open list": (b"a: [b\nc: d", ":2:2", "the list that began with [ is not closed"),
    "two colons": (b"a: b: c", ":1:5", "a ':' can't stand here"),
    "wrong indentation": (b"a:\n  b: c\n d: e", ":3:2", "does not fit the lines above it"),
    "noise": (bytes(range(32, 127)) * 10_000, ":1:", "is not YAML"),
    "a long number": (b"version: " + b"9" * 5000, ":1:10  version", "is not known here"),
    "a long schedule": (
        b"defaults: {dumps: {schedule: '" + b"*," * 400_000 + b"* * * * *'}}",
        ":1:30  defaults.dumps.schedule",
        "is far too long",
    ),
    "thousands of unknown names": (UNKNOWN_NAMES, ":1003:14  databases.k0.home", '"abcdefghij0" is not a target'),
    "thousands of zones": (ZONES, ":2:18  databases.k0.timezone", "no such time zone"),
    "a long list to compare": (UNIQUE, ":2:25  databases.a.dumps.targets[0]", "is a mapping"),
}


def timed(text: bytes) -> tuple[tuple[Finding, ...], float]:
    """What is found, and the CPU time that took, in times the plain piece of work."""
    began = time.process_time()
    sum(hash(str(n)) for n in range(700_000))
    before = time.process_time()
    found = faults(text)
    return found, (time.process_time() - before) / (before - began)


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_text(name: str) -> None:
    """It is refused after little work, and the place is named."""
    text, where, what = HOSTILE[name]
    faults(GOOD)  # loads what is loaded once a process

    found, took = timed(text)
    for _ in range(TRIES):
        if took < MOST:
            break
        found, took = timed(text)

    assert [one for one in found if one.where.startswith(f"backup-policy.yaml{where}") and what in one.what], found[:5]
    assert took < MOST


def test_text_with_a_byte_order_mark() -> None:
    """An editor's UTF-8 mark at the beginning is no fault."""
    assert faults(b"\xef\xbb\xbf" + GOOD.encode()) == ()


def test_aliases_within_bounds() -> None:
    """Aliases are followed, and a policy may use them."""
    text = GOOD.replace("targets: [primary, disk]", "targets: &both [primary, disk]")
    text += "  second:\n    source: {provider: postgres, url: '${U}'}\n    dumps: {schedule: 0 3 * * *, targets: *both}\n"

    assert faults(text) == ()


def test_no_such_file(tmp_path: Path) -> None:
    """It is said, with what would help."""
    with pytest.raises(BadPolicy) as caught:
        read(tmp_path / "absent.yaml", KINDS)

    assert f"{tmp_path}/absent.yaml  does not exist; make one with `reconcile init`, or name another with --policy FILE" == told(
        caught.value.findings[0]
    )


def test_a_folder(tmp_path: Path) -> None:
    """It is said to be one."""
    with pytest.raises(BadPolicy) as caught:
        read(tmp_path, KINDS)

    assert "is a folder" in told(caught.value.findings[0])


@pytest.mark.parametrize("name", ["a\0b", "x" * 5000])
def test_a_name_that_no_file_has(name: str) -> None:
    """It is refused like a file that can't be read."""
    with pytest.raises(BadPolicy) as caught:
        read(Path(name), KINDS)

    assert "can't be read" in told(caught.value.findings[0])


def test_a_link_to_itself(tmp_path: Path) -> None:
    """The reason is the system's."""
    path = tmp_path / "policy.yaml"
    path.symlink_to(path)

    with pytest.raises(BadPolicy) as caught:
        read(path, KINDS)

    assert "Too many levels of symbolic links" in told(caught.value.findings[0])


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_file_that_may_not_be_read(tmp_path: Path) -> None:
    """The reason is the system's."""
    path = tmp_path / "policy.yaml"
    path.touch(mode=0o000)

    with pytest.raises(BadPolicy) as caught:
        read(path, KINDS)

    assert "Permission denied" in told(caught.value.findings[0])


@pytest.mark.skipif(not Path("/dev/zero").exists(), reason=f"{sys.platform} has no /dev/zero")
def test_a_file_without_an_end() -> None:
    """No more is read of it than a policy may have."""
    with pytest.raises(BadPolicy) as caught:
        read(Path("/dev/zero"), KINDS)

    assert "is larger than 1 MiB" in told(caught.value.findings[0])
