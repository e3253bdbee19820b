"""The wrappers that watch and that forbid, and the probe of a store's promises."""

from collections.abc import Iterable
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from reconciler.errors import Conflict, Refused
from reconciler.targets.conditions import honours_conditions
from reconciler.targets.local_target import LocalTarget
from reconciler.targets.read_only import ReadOnly
from reconciler.targets.telling import Telling
from reconciler.world.events import Effect, Event
from reconciler.world.ports import ABSENT, Stored, Target, Upload
from tests.faults.clock import BEGIN, MovedClock


@pytest.fixture
def local(tmp_path: Path) -> LocalTarget:
    return LocalTarget("disk", tmp_path / "backups", clock=MovedClock())


UPLOAD = Upload(key="hotel/x", upload_id="20251025T120000Z-" + "0" * 32, begun=BEGIN)


class TestReadOnly:
    def test_reading_goes_through(self, local: LocalTarget) -> None:
        """It shows what the target inside shows."""
        stored = local.write("hotel/x", [b"x"])
        target = ReadOnly(local)

        assert (stored,) == target.list("hotel/").items
        with target.read("hotel/x") as blob:
            assert b"x" == b"".join(blob)
        assert () == target.unfinished("")
        assert (local.name, local.place, False) == (target.name, target.place, target.versioned)

    @pytest.mark.parametrize(
        "change",
        [
            lambda target: target.write("hotel/y", [b"y"]),
            lambda target: target.delete("hotel/x"),
            lambda target: target.abort(UPLOAD),
        ],
        ids=["write", "delete", "abort"],
    )
    def test_changing_is_refused(self, local: LocalTarget, change: Any) -> None:
        """Nothing is changed, and the message says what was tried."""
        local.write("hotel/x", [b"x"])
        before = local.list("")

        with pytest.raises(Refused, match="this run only looks"):
            change(ReadOnly(local))
        assert before.items == local.list("").items

    def test_a_missing_folder_is_not_made(self, local: LocalTarget) -> None:
        """Looking makes nothing."""
        ReadOnly(local).list("")

        assert not Path(local.place).exists()


class TestTelling:
    def test_each_effect_is_told_before_and_after(self, local: LocalTarget) -> None:
        """In the order in which they happen, and reading is none."""
        told: list[Event] = []
        target = Telling(local, told.append)
        target.write("hotel/x", [b"x"])
        target.list("")
        target.delete("hotel/x")
        target.abort(UPLOAD)

        def effects(verb: Any) -> list[Event]:
            return [Effect(phase=phase, verb=verb, target="disk", key="hotel/x") for phase in ("before", "after")]

        assert [*effects("write"), *effects("delete"), *effects("abort")] == told

    def test_a_failed_effect_is_told_before_only(self, local: LocalTarget) -> None:
        """For it did not happen."""
        local.write("hotel/x", [b"x"])
        told: list[Event] = []

        with pytest.raises(Conflict):
            Telling(local, told.append).write("hotel/x", [b"y"], expect=ABSENT)
        assert [Effect(phase="before", verb="write", target="disk", key="hotel/x")] == told

    def test_a_death_before_the_effect(self, local: LocalTarget) -> None:
        """A listener that raises keeps the effect from happening."""

        def die(_: Event) -> None:
            raise SystemExit(9)

        with pytest.raises(SystemExit):
            Telling(local, die).write("hotel/x", [b"x"])
        assert () == local.list("").items


class Careless(LocalTarget):
    """A store that takes conditions and writes all the same."""

    def write(
        self, key: str, chunks: Iterable[bytes], *, expect: str | None = None, keep_until: datetime | None = None
    ) -> Stored:
        return super().write(key, chunks, expect=None if expect in self.ignored else expect)

    ignored: tuple[str, ...] = ()


class CarelessOfETags(Careless):
    def write(
        self, key: str, chunks: Iterable[bytes], *, expect: str | None = None, keep_until: datetime | None = None
    ) -> Stored:
        return super(Careless, self).write(key, chunks, expect=expect if expect == ABSENT else None)


class CarelessOfAbsence(Careless):
    ignored = (ABSENT,)


@pytest.mark.parametrize(
    ("store", "honest"),
    [(LocalTarget, True), (CarelessOfETags, False), (CarelessOfAbsence, False)],
)
def test_does_the_store_keep_its_promises(tmp_path: Path, store: type[LocalTarget], honest: bool) -> None:
    """Either condition ignored is found out, and the probe leaves nothing."""
    target: Target = store("disk", tmp_path / "backups", clock=MovedClock())

    assert honest == honours_conditions(target, "hotel/probe")
    assert () == target.list("").items
