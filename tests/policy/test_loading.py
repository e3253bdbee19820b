"""A good policy becomes frozen types, defaults merged; no text becomes anything but a policy or its faults."""

import hashlib
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as some

from reconciler.errors import Finding
from reconciler.policy import load, places, read
from reconciler.policy.kinds import Kinds
from reconciler.policy.lint import lint
from reconciler.policy.model import Compression, Disaster, Dumps, Metadata, Objectives, Retention
from reconciler.policy.secret import Secret, Text
from reconciler.policy.timing import Timing
from reconciler.policy.units import Duration, Span
from reconciler.providers import PROVIDERS
from reconciler.scratch import SCRATCHES
from reconciler.targets import TARGETS
from tests.policy.kinds import FILE, GOOD, KINDS, Bucket, Folder, Server, faults, loaded, told

RPO = "databases.hotel.objectives.rpo"
SCHEDULE = "databases.hotel.dumps.schedule"
NOW = datetime(2025, 10, 24, 12, tzinfo=UTC)


def linted(text: str) -> list[Finding]:
    """What lint says of a policy that loads."""
    return lint(loaded(text), places(text.encode(), FILE), now=NOW)


def test_a_good_policy() -> None:
    """Everything that is written is there, typed."""
    policy = loaded(GOOD)

    hotel = policy.databases["hotel"]
    assert policy.metadata == Metadata(name="agente-hotel", owner="backend-ops")
    assert policy.targets == {
        "primary": Bucket(
            bucket="backups", key=Secret.parse("${S3_KEY}"), region=Text.parse("eu-west-1"), object_lock="governance"
        ),
        "disk": Folder(path="./.backups"),
    }
    assert hotel.source == Server(url=Secret.parse("${DATABASE_URL}"))
    assert (hotel.name, hotel.home, hotel.timezone, hotel.encryption) == ("hotel", "disk", "Europe/Madrid", "none")
    assert hotel.objectives == Objectives(rpo=Duration(hours=26), disaster=Disaster(rpo=Duration(days=2)))
    assert hotel.dumps == Dumps(
        schedule=Timing.parse("0 2 * * *"),
        targets=("primary", "disk"),
        compression=Compression(level=3, threads=2),
        retention=Retention(keep_last=3, keep_within=Span(years=1, months=6), grace=Duration(days=3)),
    )


def test_what_is_not_said() -> None:
    """It has the defaults that are documented."""
    text = "version: 1\nmetadata: {name: a, owner: b}\ntargets: {disk: {type: local, path: x}}\n"
    text += "databases: {hotel: {source: {provider: postgres, url: '${U}'}, dumps: {schedule: 0 2 * * *, targets: [disk]}}}\n"

    hotel = loaded(text).databases["hotel"]

    assert (hotel.home, hotel.timezone, hotel.encryption) == ("disk", "UTC", None)
    assert hotel.objectives == Objectives()
    assert hotel.dumps.compression == Compression(algorithm="zstd", level=3, threads=0)
    assert hotel.dumps.retention is None
    assert Retention().grace == timedelta(days=7)


def test_defaults_under_a_database() -> None:
    """They are merged key by key, the database's own word first, lists as a whole."""
    defaults = (
        "  dumps: {schedule: 0 5 * * *, targets: [disk], compression: {level: 9}, retention: {keep_daily: 30, keep_last: 9}}\n"
    )
    text = GOOD.replace("databases:", f"{defaults}databases:").replace('      schedule: "0 2 * * *"\n', "")

    dumps = loaded(text).databases["hotel"].dumps

    assert dumps.schedule == Timing.parse("0 5 * * *")
    assert dumps.targets == ("primary", "disk")
    assert dumps.compression == Compression(level=3, threads=2)
    assert dumps.retention == Retention(keep_last=3, keep_daily=30, keep_within=Span(years=1, months=6), grace=Duration(days=3))


def test_the_places_of_a_policy() -> None:
    """What a database says stands there, what it has from the defaults stands there, and what nobody said is near."""
    found = places(GOOD.encode(), FILE)

    assert found.of(("databases", "hotel", "dumps", "targets", 1)).startswith("backup-policy.yaml:16:26  ")
    assert found.of(("databases", "hotel", "timezone")) == "backup-policy.yaml:7:13  databases.hotel.timezone"
    assert found.of(("databases", "hotel", "dumps", "never")) == "backup-policy.yaml:15:7  databases.hotel.dumps.never"


def test_the_file_and_its_digest(tmp_path: Path) -> None:
    """A policy knows its file and the hash of its bytes."""
    path = tmp_path / "policy.yaml"
    path.write_text(GOOD)

    policy = read(path, KINDS)

    assert policy.path == path
    assert policy.digest == hashlib.sha256(path.read_bytes()).hexdigest()


def test_a_policy_is_frozen() -> None:
    """Nothing changes it once it is read."""
    policy = loaded(GOOD)

    with pytest.raises(AttributeError):
        policy.databases["hotel"].home = "elsewhere"  # type: ignore[misc]  # that is what is tried


def test_the_real_kinds() -> None:
    """The targets and providers that there are can be declared as the design shows them."""
    text = """\
version: 1
metadata: {name: agente-hotel, owner: backend-ops}
targets:
  primary: {type: s3, bucket: backups-agente, prefix: b/, region: eu, endpoint: {file: .sandbox/s3_endpoint}, domain: aws}
  disk: {type: local, path: ./.backups}
databases:
  hotel:
    source: {provider: postgres, url: {file: .sandbox/postgres_url}}
    encryption: none
    dumps: {schedule: 0 2 * * *, targets: [primary, disk]}
"""

    policy = load(text.encode(), Kinds(targets=TARGETS, providers=PROVIDERS, scratches=SCRATCHES), path=FILE)

    settings = {name: msgspec.structs.asdict(target) for name, target in policy.targets.items()}
    assert (settings["primary"]["domain"], settings["disk"]["path"]) == ("aws", "./.backups")


scalars = some.one_of(
    some.none(),
    some.booleans(),
    some.integers(min_value=-5, max_value=70),
    some.floats(allow_nan=False),
    some.sampled_from(
        ["none", "zstd", "local", "s3", "postgres", "hosted", "disk", "primary", "6h", "1y", "UTC", "${X}", "${X:-y}"]
    ),
    some.sampled_from(["", "0 2 * * *", "0 2 30 2 *"]),
    some.text(alphabet="abz09 -_:${}*/#[]é\n", max_size=9),
)
values = some.recursive(
    scalars,
    lambda inner: some.one_of(
        some.lists(inner, max_size=3),
        some.dictionaries(
            some.sampled_from(["file", "rpo", "path", "type", "keep_last", "level", "hotel", "x y"]), inner, max_size=3
        ),
    ),
    max_leaves=4,
)


def steps(document: Any, path: tuple[str | int, ...] = ()) -> list[tuple[str | int, ...]]:
    """The paths of all values in the document."""
    inner = document.items() if isinstance(document, dict) else enumerate(document) if isinstance(document, list) else ()
    return [path, *(found for step, value in inner for found in steps(value, (*path, step)))]


@settings(max_examples=150, deadline=None)
@given(some.data())
def test_a_good_policy_with_anything_anywhere(data: some.DataObject) -> None:
    """It loads, or it is refused with places and sentences: the schema and the types agree on which."""
    document = {"root": yaml.safe_load(GOOD)}
    for _ in range(data.draw(some.integers(min_value=1, max_value=2))):
        *outer, last = data.draw(some.sampled_from([path for path in steps(document) if path]))
        parent: Any = document
        for step in outer:
            parent = parent[step]
        parent[last] = data.draw(values)
    text = yaml.safe_dump(document["root"], allow_unicode=True).encode()

    found = faults(text)
    told = [finding for finding in found if finding.where.startswith("backup-policy.yaml:") and finding.what]
    loads = [lint(load(text, KINDS, path=FILE), places(text, FILE), now=NOW)] if not found else []

    assert len(told) == len(found)
    assert loads or found


def _says(text: str) -> list[tuple[str, str, str]]:
    return [(finding.severity, finding.where.rpartition("  ")[2], finding.what) for finding in linted(text)]


def test_lint_of_a_good_policy() -> None:
    """It has nothing to say."""
    assert linted(GOOD) == []


@pytest.mark.parametrize(
    ("good", "bad", "expected"),
    [
        (
            "rpo: 26h",
            "rpo: 6h",
            ("error", RPO, "6h can't be met: between two dumps lie up to 1d"),
        ),
        (
            "rpo: 26h",
            "rpo: 24h",
            ("warning", RPO, "1d is missed when the clock of Europe/Madrid changes: two dumps are 25h apart then"),
        ),
        (
            "rpo: 26h",
            "rpo: 25h",
            ("warning", RPO, "25h is just the time between two dumps, and leaves none for the dump itself"),
        ),
        (
            "disaster: {rpo: 2d}",
            "disaster: {rpo: 2h}",
            ("error", "databases.hotel.objectives.disaster.rpo", "2h can't be met: between two dumps lie up to 1d"),
        ),
        (
            "{keep_last: 3, keep_within: 1y6mo, grace: 3d}",
            "{grace: 3d}",
            ("warning", "databases.hotel.dumps.retention", "no rule: every backup is kept, and storage only grows"),
        ),
        (
            "      retention: {keep_last: 3, keep_within: 1y6mo, grace: 3d}\n",
            "",
            ("warning", "databases.hotel.dumps.retention", "no rule: every backup is kept, and storage only grows"),
        ),
        (
            '"0 2 * * *"',
            '"*/90 * * * *"',
            ("warning", SCHEDULE, "*/90 fires once in the hour, at 0: no minute is 90 or more"),
        ),
        (
            '"0 2 * * *"',
            '"0 2 */1 * */1"',
            ("warning", SCHEDULE, "names days of the month (*/1) and days of the week (*/1): it fires on a day that is both"),
        ),
        (
            "  disk:",
            "  spare: {type: local, path: y}\n  disk:",
            ("warning", "targets.spare", "no database dumps to it"),
        ),
        (
            "      retention:",
            "      verify: {every: 7d, expires: 6d}\n      retention:",
            (
                "warning",
                "databases.hotel.dumps.verify.expires",
                "it counts for 6d only, and the next verification comes after 7d: nothing is proven between",
            ),
        ),
        (
            ", object_lock: governance",
            "",
            (
                "warning",
                "targets",
                "whoever takes over this machine can delete every copy of hotel: none is locked or append-only",
            ),
        ),
    ],
)  # fmt: skip
def test_a_promise_that_can_not_be_kept(good: str, bad: str, expected: tuple[str, str, str]) -> None:
    """Lint says it at its place, and nothing else."""
    assert [expected] == _says(GOOD.replace(good, bad))


NEVER = "databases.hotel.dumps.never"
TIMES = {
    'schedule: "0 18 * * *"\n      never: ["* 17-21 * * FRI"]': [
        ("warning", NEVER, "an RPO of 26h is missed: with these windows, up to 28h lie between the starts of two dumps")
    ],
    'schedule: "0 18 * * *"\n      never: ["* 18-19 * * FRI"]': [
        (
            "warning",
            NEVER,
            "an RPO of 26h leaves no time for the dump itself: with these windows, just as much lies between two starts",
        )
    ],
    'schedule: "0 2 * * *"\n      never: ["0-30 2 * * *"]': [
        ("warning", NEVER, '"0-30 2 * * *" closes single minutes: each minute that it names, and no other'),
        ("warning", NEVER, "nearly every slot of 0 2 * * * lies in a window: each such dump waits until it is over"),
    ],
    'schedule: "0 2 * * *"\n      never: ["* 0-11 * * *", "* 12-23 * * *"]': [
        ("error", NEVER, "no dump can ever start: the windows leave no time open")
    ],
    'schedule: "0 2 * * *"\n      never: ["* 17-21 * * FRI"]': [],
    "schedule: auto": [],
    'schedule: auto\n      never: ["* 17-21 * * FRI"]': [],
}


@pytest.mark.parametrize(("said", "expected"), TIMES.items())
def test_windows_that_close_too_much(said: str, expected: list[tuple[str, str, str]]) -> None:
    """Lint says what they make impossible."""
    assert expected == _says(GOOD.replace('schedule: "0 2 * * *"', said))


def test_an_rpo_that_auto_can_not_promise() -> None:
    """It dumps every five minutes, and not more often."""
    text = GOOD.replace('schedule: "0 2 * * *"', "schedule: auto")

    assert [] == _says(text.replace("rpo: 26h", "rpo: 7m"))
    assert [("error", RPO, "6m is less than auto can promise: it dumps every 5m at most")] == _says(text.replace("26h", "6m"))


def test_hooks_that_say_too_much() -> None:
    """Arguments are seen by whoever lists processes, so no reference is one; and our own names are ours."""
    hooks = '      hooks: {before: [{argv: [./pause, "--token=${TOKEN}"], env: {RECONCILER_DATABASE: x, TOKEN: "${TOKEN}"}}]}\n'
    at = "databases.hotel.dumps.hooks.before[0]"

    assert [
        f"{at}.argv[1]  is no place for a reference: whoever lists processes sees it; give it by env or stdin",
        f"{at}.env.RECONCILER_DATABASE  is what we say to a hook ourselves; choose another name",
    ] == [told(finding).partition("  ")[2] for finding in faults(GOOD + hooks)]


@pytest.mark.parametrize("name", ["1X", "A-B", "A=B", ""])
def test_hooks_with_a_variable_of_no_name(name: str) -> None:
    """What no environment can hold is a fault."""
    assert faults(GOOD + f'      hooks: {{before: [{{argv: [x], env: {{"{name}": y}}}}]}}\n')


def test_auto_without_an_rpo() -> None:
    """There is nothing that it could follow from; either RPO will do."""
    text = GOOD.replace('schedule: "0 2 * * *"', "schedule: auto")
    none, one = text.replace("    objectives: {rpo: 26h, disaster: {rpo: 2d}}\n", ""), text.replace("rpo: 26h, ", "")

    assert [
        "backup-policy.yaml:14:17  databases.hotel.dumps.schedule  auto is often enough for an RPO, and there is none; "
        "say one, as objectives: {rpo: 6h}, or write a cron schedule"
    ] == [told(finding) for finding in faults(none)]
    assert () == faults(one)


def test_a_disaster_that_takes_all_copies() -> None:
    """Where every target lies in the source's own domain, the objective can't be met."""
    text = GOOD.replace('url: "${DATABASE_URL}"', 'url: "${DATABASE_URL}", domain: aws').replace(
        "bucket: backups,", "bucket: backups, domain: aws,"
    )
    alone = text.replace("[primary, disk]", "[primary]").replace("home: disk", "home: primary")

    assert _says(text) == []
    expected = (
        "error",
        "databases.hotel.objectives.disaster",
        "every target fails together with the source (aws): no copy would be left",
    )
    assert expected in _says(alone)


def test_an_append_only_target_is_beyond_reach_and_no_home() -> None:
    """It satisfies who asks for such a copy; but what comes and goes can't lie there."""
    text = GOOD.replace("object_lock: governance", "append_only: true")

    assert [] == _says(text)
    assert [
        ("error", "databases.hotel.home", "primary is append_only, and leases, pins and tombstones of home come and go")
    ] == _says(text.replace("home: disk", "home: primary"))


def test_two_databases_of_one_source() -> None:
    """They are told, since one of them is probably a slip of copying."""
    copied = GOOD.split("databases:\n")[1].replace("hotel:", "copy:").replace("home: disk\n", "home: primary\n")

    assert _says(GOOD + copied) == [
        ("warning", "databases.copy.source", "has the very source of hotel, and both dump to primary, disk")
    ]
