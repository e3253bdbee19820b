"""Holds that travel: to every copy of a backup, as they were put, and to nothing else."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from datetime import datetime, timedelta
from itertools import count
from pathlib import Path

import msgspec
import pytest

from reconciler.backups import layout
from reconciler.backups.keeping import Hold, put_hold
from reconciler.backups.manifest import LARGEST, encode
from reconciler.backups.records import read_whole
from reconciler.duties import DUTIES, holding
from reconciler.duties.copies import CopyBackup
from reconciler.duties.holding import HoldBackup, ReleaseBackup, SpreadHold
from reconciler.duties.leftovers import lies_elsewhere
from reconciler.errors import Absent, Conflict, Refused, Unreachable
from reconciler.planning.plan import Consent
from reconciler.targets.append_only import AppendOnly
from reconciler.turn import survey, turn
from reconciler.world.facts import Copy, Observation, State
from reconciler.world.ports import Blob, Custody, Stored, Target, World
from reconciler.world.through import Through, Verb
from tests.backups.faking import Interrupted, Lossy, MovedClock, catalogue, files, make_world, take
from tests.building import DAY, HOUR, NOW, copy, observation, observation_of, policy, retention, unknown, utc
from tests.building import catalogue as catalogue_of

TODAY = utc("2025-10-25 02:00")
THREE = ("primary", "offsite", "vault")
WANT = policy("0 0 1 1 *", THREE, retention(grace="7d", keep_last=2))
LEGAL = 'held by ana: "legal 7"'


def held(
    until: datetime | None = None, state: State = "whole", *, unasked: bool = False, refused: datetime | None = None
) -> Copy:
    return copy(TODAY, state, held=LEGAL, held_until=until, held_unasked=unasked, held_refused=refused)


def asked(have: Observation) -> list[tuple[str, tuple[str, ...]]]:
    """Origin and targets of each hold that travels."""
    actions = [step.action for step in holding.due(policy(targets=THREE), have, NOW).steps]
    return [(action.origin, action.targets) for action in actions if isinstance(action, SpreadHold)]


class TestPlanned:
    def test_a_copy_that_was_made_later(self) -> None:
        """It lacks the hold that lies on another target."""
        have = observation(primary=catalogue_of([copy(TODAY)]), offsite=catalogue_of([held()]), vault=catalogue_of([held()]))

        assert [("offsite", ("primary",))] == asked(have)

    @pytest.mark.parametrize(
        ("primary", "offsite", "vault"),
        [
            (NOW + DAY, NOW + 3 * DAY, NOW + 2 * DAY),
            (NOW + DAY, None, NOW + 2 * DAY),
            (NOW + DAY, None, None),
        ],
        ids=["the latest end", "one without end", "two without end"],
    )
    def test_the_longest_one_is_brought_to_those_that_end_sooner(
        self, primary: datetime, offsite: datetime | None, vault: datetime | None
    ) -> None:
        """Whatever order they were seen in."""
        seen = {"primary": primary, "offsite": offsite, "vault": vault}
        sooner = tuple(sorted(name for name, end in seen.items() if end is not None and end != offsite))
        for names in (THREE, THREE[::-1]):
            have = observation_of({name: catalogue_of([held(seen[name])]) for name in names})

            assert [("offsite", sooner)] == asked(have)

    def test_a_store_that_gave_no_answer(self) -> None:
        """It is asked again, by the hold that lies there or by another one that lasts as long; a copy that is gone is not."""
        alone = observation(primary=catalogue_of([held(unasked=True)]))
        beside = observation(offsite=catalogue_of([held()]), vault=catalogue_of([held(unasked=True)]))
        gone = observation(primary=catalogue_of([held(state="orphan", unasked=True)]))

        assert [("primary", ("primary",))] == asked(alone)
        assert [("offsite", ("vault",))] == asked(beside)
        assert [] == asked(gone)

    @pytest.mark.parametrize(
        ("refused", "again"), [(HOUR, False), (DAY, True), (9 * DAY, True), (-HOUR, False), (-9 * DAY, True)]
    )
    def test_a_store_that_refused(self, refused: timedelta, again: bool) -> None:
        """It is asked again once a day, for the right may have been given since, whatever clock it was written under."""
        have = observation(offsite=catalogue_of([held()]), vault=catalogue_of([held(refused=NOW - refused)]))

        assert ([("offsite", ("vault",))] if again else []) == asked(have)

    def test_all_are_held_alike(self) -> None:
        """Nothing is asked for."""
        until = NOW + DAY
        have = observation(primary=catalogue_of([held(until)]), offsite=catalogue_of([held(until)]))

        assert [] == asked(have)

    @pytest.mark.parametrize("state", ["whole", "deleted", "being_deleted", "damaged", "hidden", "impossible"])
    def test_what_is_ours_is_held(self, state: State) -> None:
        """In whatever state it is: it may be what is left of the backup one day."""
        lacking = msgspec.structs.replace(copy(TODAY, state), repository="5f0c1d2e3a4b5968")
        have = observation(primary=catalogue_of([held()]), offsite=catalogue_of([lacking]))

        assert [("primary", ("offsite",))] == asked(have)

    @pytest.mark.parametrize("state", ["foreign", "being_written", "debris", "orphan"])
    def test_what_is_no_backup_of_ours_is_not(self, state: State) -> None:
        """One that is being written gets it once it is whole."""
        have = observation(primary=catalogue_of([held()]), offsite=catalogue_of([copy(TODAY, state)]))

        assert [] == asked(have)

    @pytest.mark.parametrize("state", ["hidden", "being_deleted", "deleted", "damaged"])
    def test_where_no_manifest_can_be_read_there_is_no_backup(self, state: State) -> None:
        """A hold alone would be put beside what is left of it."""
        have = observation(primary=catalogue_of([held()]), offsite=catalogue_of([copy(TODAY, state, repository=None)]))

        assert [] == asked(have)

    def test_what_a_stranger_holds_is_not_brought_to_ours(self) -> None:
        """It says nothing of ours."""
        have = observation(primary=catalogue_of([held(state="foreign")]), offsite=catalogue_of([copy(TODAY)]))

        assert [] == asked(have)

    def test_a_hold_that_is_all_that_is_left(self) -> None:
        """Somebody meant the backup, and it lies elsewhere."""
        have = observation(primary=catalogue_of([held(state="orphan")]), offsite=catalogue_of([copy(TODAY)]))

        assert [("primary", ("offsite",))] == asked(have)

    def test_a_target_that_can_not_be_seen(self) -> None:
        """Neither is it asked about, nor does it keep the others waiting."""
        have = observation(primary=catalogue_of([held()]), offsite=unknown(), vault=catalogue_of([copy(TODAY)]))

        assert [("primary", ("vault",))] == asked(have)


@pytest.fixture
def clock() -> MovedClock:
    return MovedClock()


@pytest.fixture
def world(tmp_path: Path, clock: MovedClock) -> World:
    """A backup on primary and offsite, as it was before anybody held it."""
    made = make_world(tmp_path, clock, names=THREE)
    backup = take(made, slot=utc("2025-01-01 00:00"))
    CopyBackup(database="hotel", backup=backup, origin="primary", target="offsite").perform(made, WANT)
    return made


def the_backup(world: World) -> str:
    return min(copy.id for copy in catalogue(world).copies)


def key_of(world: World) -> str:
    return layout.object_key("hotel", the_backup(world), layout.HOLD)


def hold(world: World, *targets: str, until: timedelta | None = None) -> None:
    end = world.clock.now() + until if until else None
    HoldBackup(
        database="hotel", backup=the_backup(world), targets=targets or ("primary",), who="ana", why="legal 7", until=end
    ).perform(world, WANT)


def spread(world: World, *targets: str) -> str:
    action = SpreadHold(database="hotel", backup=the_backup(world), origin="primary", targets=targets or ("offsite",))
    return action.perform(world, WANT)


def says(world: World, target: str = "offsite") -> list[str]:
    return [copy.held for copy in catalogue(world, target).copies]


def through(world: World, name: str, target: Target) -> World:
    return msgspec.structs.replace(world, targets={**world.targets, name: target})


class TestPerformed:
    def test_a_copy_gets_it_in_the_turn_that_makes_it(self, world: World) -> None:
        """And one that was made before; then nothing is left to do."""
        hold(world)
        turn(world, WANT, DUTIES, Consent())
        record = read_whole(world.targets["primary"], key_of(world))[0]

        assert [record] * 2 == [read_whole(world.targets[name], key_of(world))[0] for name in ("offsite", "vault")]
        assert () == survey(world, WANT, DUTIES).plan.steps

    def test_it_outlives_the_target_on_which_it_was_put(self, tmp_path: Path, world: World, clock: MovedClock) -> None:
        """That one leaves the policy: the others keep the backup until it is released, however old it is."""
        backup = the_backup(world)
        hold(world)
        for _ in range(4):
            clock.move(HOUR)
            take(world, repository=catalogue(world).repository.id)  # type: ignore[union-attr]  # it has one
        turn(world, policy("0 0 1 1 *", THREE), DUTIES, Consent())
        left = make_world(tmp_path, clock, names=("offsite", "vault"))
        want = policy("0 0 1 1 *", ("offsite", "vault"), retention(grace="7d", keep_last=2))
        lost = {step.action.loses for step in survey(left, want, DUTIES).plan.steps}
        ReleaseBackup(database="hotel", backup=backup, targets=("offsite", "vault")).perform(left, want)

        assert lost
        assert backup not in lost
        assert backup in {step.action.loses for step in survey(left, want, DUTIES).plan.steps}

    @pytest.mark.parametrize("until", [None, HOUR], ids=["without end", "for an hour"])
    def test_a_death_at_any_step(self, world: World, until: timedelta | None) -> None:
        """Wherever the record is, the store keeps all that the backup is made of as well, unless it ends by itself."""
        made_of = 0 if until else 4
        for step in count(1):
            vault = Vault(world.targets["primary"], dies_at=step)
            try:
                hold(through(world, "primary", vault), until=until)
            except KeyboardInterrupt:
                assert [""] == says(world, "primary")
            else:
                break

        assert made_of + 2 == step
        assert made_of == len(vault.custody.held)
        assert [True] == [bool(held) for held in says(world, "primary")]

    @pytest.mark.parametrize("text", [b"", b'{"who": "ana', b"0" * (LARGEST + 1)], ids=["empty", "torn", "endless"])
    def test_one_that_can_not_be_read(self, world: World, text: bytes) -> None:
        """Somebody meant something by it, wherever the backup lies."""
        world.targets["primary"].write(key_of(world), [text])
        turn(world, WANT, DUTIES, Consent())

        assert [True] * 3 == ["cannot be read" in held for name in THREE for held in says(world, name)]
        assert () == survey(world, WANT, DUTIES).plan.steps

    @pytest.mark.parametrize("kind", ["Mute", "Refusing", "Emptied"])
    def test_a_target_that_takes_no_hold(self, world: World, kind: str) -> None:
        """The other is held at once, though it comes later, who asked is told, and the next turn brings it to the first."""
        first = {"Mute": Mute, "Refusing": Refusing, "Emptied": Emptied}[kind](world.targets["offsite"])
        with pytest.raises(Refused, match="is held on primary, and not everywhere: offsite ") as caught:
            hold(through(world, "offsite", first), "offsite", "primary")

        assert "the next `reconcile apply` brings it to the other copies" in caught.value.cure
        assert [[LEGAL], [""]] == [says(world, name) for name in ("primary", "offsite")]
        turn(world, WANT, DUTIES, Consent())
        assert [LEGAL] == says(world)

    def test_a_hold_that_no_target_takes(self, world: World) -> None:
        """It fails as that target says."""
        with pytest.raises(Refused, match=r"^primary takes no hold$"):
            hold(through(world, "primary", Refusing(world.targets["primary"])))

    def test_one_that_ends_sooner_is_written_over(self, world: World) -> None:
        """Nothing is taken away by it."""
        hold(world, "offsite", until=HOUR)
        hold(world)
        spread(world)

        assert [LEGAL] == says(world)

    @pytest.mark.parametrize("there", [None, 3 * HOUR], ids=["without end", "for longer"])
    def test_one_that_was_put_there_meanwhile_is_left(self, world: World, there: timedelta | None) -> None:
        """Between the look at the target and the write."""
        hold(world, until=2 * HOUR)
        end = world.clock.now() + there if there else None
        eva = Hold(who="eva", why="mine", at=world.clock.now(), until=end)
        other = Interrupted(world.targets["offsite"], lambda: put_hold(world.targets["offsite"], "hotel", the_backup(world), eva))
        said = spread(through(world, "offsite", other))

        assert "for as long by now" in said
        assert encode(eva) == read_whole(world.targets["offsite"], key_of(world))[0]

    def test_a_shorter_one_that_was_put_there_meanwhile_is_not(self, world: World) -> None:
        """It is met, and written over after another look."""
        hold(world)
        other = Interrupted(world.targets["offsite"], lambda: hold(world, "offsite", until=HOUR))
        spread(through(world, "offsite", other))

        assert [LEGAL] == says(world)

    def test_a_lost_answer_is_found_again(self, world: World) -> None:
        """Our own write is no other's."""
        hold(world)
        lossy = through(world, "offsite", Lossy(world.targets["offsite"]))

        assert "for as long by now" in spread(lossy)
        assert [LEGAL] == says(world)

    def test_somebody_is_faster_each_time(self, world: World) -> None:
        """It is given up for this turn, and says so."""
        hold(world)

        with pytest.raises(Conflict, match="somebody is faster"):
            spread(through(world, "offsite", Busy(world.targets["offsite"])))

    def test_a_target_that_takes_none(self, world: World) -> None:
        """The others get it all the same; the turn says what failed, and deletes nothing."""
        turn(world, WANT, DUTIES, Consent())
        hold(world)
        done = turn(through(world, "offsite", Refusing(world.targets["offsite"])), WANT, DUTIES, Consent())

        assert [("failed", "offsite takes no hold")] == [(one.result, one.says) for one in done.outcomes]
        assert [LEGAL] == says(world, "vault")
        assert [("primary", ("offsite",))] == [
            (step.action.parameters["origin"], step.action.parameters["targets"]) for step in done.after.steps
        ]

    @pytest.mark.parametrize("ends", ["released", "over"])
    def test_one_that_is_no_more(self, world: World, clock: MovedClock, ends: str) -> None:
        """Between plan and deed: it is not brought back."""
        hold(world, until=HOUR)
        if ends == "released":
            ReleaseBackup(database="hotel", backup=the_backup(world), targets=("primary",)).perform(world, WANT)
        else:
            clock.move(HOUR)

        assert "no longer held" in spread(world)
        assert [""] == says(world)
        assert "hold.json" not in "".join(files(Path(world.targets["offsite"].place)))

    def test_a_copy_that_went_meanwhile(self, world: World) -> None:
        """No folder is made for a hold alone."""
        hold(world)
        said = spread(world, "vault", "offsite")

        assert f"{the_backup(world)} is no longer on vault" in said
        assert set() == {name for name in files(Path(world.targets["vault"].place)) if "backups" in name}
        assert [LEGAL] == says(world)

    def test_a_released_one_does_not_come_back(self, world: World) -> None:
        """Once no copy has it any more."""
        hold(world)
        turn(world, WANT, DUTIES, Consent())
        ReleaseBackup(database="hotel", backup=the_backup(world), targets=THREE).perform(world, WANT)
        turn(world, WANT, DUTIES, Consent())

        assert [""] * 3 == [held for name in THREE for held in says(world, name)]

    def test_one_on_an_append_only_target_is_released_too(self, world: World) -> None:
        """Nothing is deleted there, and what is over holds nothing: else it would come back to all the others."""
        hold(world, "primary", "offsite")
        kept = through(world, "offsite", AppendOnly(world.targets["offsite"]))
        ReleaseBackup(database="hotel", backup=the_backup(world), targets=("offsite", "primary")).perform(kept, WANT)
        turn(kept, WANT, DUTIES, Consent())

        assert [""] * 3 == [held for name in THREE for held in says(world, name)]


class TestOfCopiesBeingMade:
    @pytest.mark.parametrize("stays", [False, True], ids=["all others leave", "nothing else changes"])
    def test_a_death_at_any_step(self, tmp_path: Path, stays: bool) -> None:
        """A copy is held from its first instant on, and the next turn lets the store keep it, though it see no other copy."""
        for step in count(1):
            world = a_held_backup(tmp_path / f"{stays}-{step}")
            dying = Vault(world.targets["vault"], dies_at=step)
            with suppress(KeyboardInterrupt):
                copy_to_vault(through(world, "vault", dying))
            copied = ["whole"] == [copy.state for copy in catalogue(world, "vault").copies]
            names = THREE if stays else ("vault",)
            left = msgspec.structs.replace(world, targets={name: world.targets[name] for name in names})
            living = Vault(world.targets["vault"], dies_at=1_000_000)
            for _ in range(2):
                turn(through(left, "vault", living), policy("0 0 1 1 *", names), DUTIES, Consent())

            if copied or stays:
                held = {copy.held for copy in catalogue(world, "vault").copies if copy.slot == utc("2025-01-01 00:00")}
                assert (step, {LEGAL}) == (step, held)
                assert (step, 4) == (step, len(dying.custody.held | living.custody.held))
            if not dying.is_dead:
                break
        assert step > 10

    def test_two_deaths(self, tmp_path: Path) -> None:
        """One before the manifest, and one at any step of sweeping what that left: the next turns copy it all the same."""
        for step in count(1):
            world = a_held_backup(tmp_path / str(step))
            with suppress(KeyboardInterrupt):
                copy_to_vault(through(world, "vault", Unsealed(world.targets["vault"])))
            assert [("debris", LEGAL)] == [(copy.state, copy.held) for copy in catalogue(world, "vault").copies]
            dying = Vault(world.targets["vault"], dies_at=step)
            with suppress(KeyboardInterrupt):
                turn(through(world, "vault", dying), WANT, DUTIES, Consent())
            for _ in range(2):
                turn(world, WANT, DUTIES, Consent())

            copies = [copy for copy in catalogue(world, "vault").copies if copy.slot == utc("2025-01-01 00:00")]
            assert (step, [("whole", LEGAL)]) == (step, [(copy.state, copy.held) for copy in copies])
            if not dying.is_dead:
                break
        assert step > 5

    def test_a_hold_that_was_released_meanwhile(self, tmp_path: Path) -> None:
        """It does not come along."""
        world = a_held_backup(tmp_path)
        ReleaseBackup(database="hotel", backup=the_backup(world), targets=("primary",)).perform(world, WANT)
        copy_to_vault(world)

        assert [""] == says(world, "vault")

    def test_a_hold_that_can_not_be_read(self, tmp_path: Path) -> None:
        """The copy is not kept waiting for it."""
        world = a_held_backup(tmp_path)
        copy_to_vault(world, origin="offsite", primary=Mute(world.targets["primary"]))

        assert [""] == says(world, "vault")


def a_held_backup(folder: Path) -> World:
    """On primary and offsite; held on primary alone."""
    folder.mkdir(exist_ok=True)
    made = make_world(folder, MovedClock(), names=THREE)
    backup = take(made, slot=utc("2025-01-01 00:00"))
    CopyBackup(database="hotel", backup=backup, origin="primary", target="offsite").perform(made, WANT)
    hold(made)
    return made


def copy_to_vault(world: World, *, origin: str = "primary", primary: Target | None = None) -> None:
    action = CopyBackup(database="hotel", backup=the_backup(world), origin=origin, target="vault", held="primary")
    action.perform(through(world, "primary", primary) if primary else world, WANT)


class Mute(Through):
    """Tells nothing of holds."""

    def read(self, key: str, *, start: int = 0, version: str | None = None) -> Blob:
        if key.endswith(layout.HOLD):
            raise Unreachable(f"{self.name} does not answer")
        return super().read(key, start=start, version=version)


class Refusing(Through):
    """Takes everything but holds."""

    def write(
        self, key: str, chunks: Iterable[bytes], *, expect: str | None = None, keep_until: datetime | None = None
    ) -> Stored:
        if key.endswith(layout.HOLD):
            raise Refused(f"{self.name} takes no hold", cure="ask its owner")
        return super().write(key, chunks, expect=expect, keep_until=keep_until)


class Emptied(Through):
    """What is to be held went away meanwhile, as a store tells that is asked for its legal hold."""

    def write(
        self, key: str, chunks: Iterable[bytes], *, expect: str | None = None, keep_until: datetime | None = None
    ) -> Stored:
        if key.endswith(layout.HOLD):
            raise Absent(f"{self.name} has no {key}")
        return super().write(key, chunks, expect=expect, keep_until=keep_until)


class Unsealed(Through):
    """Dies before the manifest."""

    def write(
        self, key: str, chunks: Iterable[bytes], *, expect: str | None = None, keep_until: datetime | None = None
    ) -> Stored:
        if key.endswith(layout.MANIFEST):
            raise KeyboardInterrupt
        return super().write(key, chunks, expect=expect, keep_until=keep_until)


class Vault(Through):
    """Its store holds objects by itself; we die at the nth change that is asked of it, and no later one comes to be."""

    def __init__(self, target: Target, *, dies_at: int) -> None:
        super().__init__(target)
        self._left = dies_at
        self._custody = Holding(self._count)

    @property
    def custody(self) -> "Holding":
        return self._custody

    @contextmanager
    def around(self, verb: Verb, key: str) -> Iterator[None]:
        self._count()
        yield

    @property
    def is_dead(self) -> bool:
        return self._left <= 0

    def _count(self) -> None:
        self._left -= 1
        if self._left <= 0:
            raise KeyboardInterrupt


class Holding(Custody):
    """Tells what it holds."""

    holds = True

    def __init__(self, count: Callable[[], None]) -> None:
        self._count = count
        self.held: set[str] = set()

    def hold(self, key: str, version: str | None, *, held: bool) -> None:
        self._count()
        self.held.add(key)


class Busy(Through):
    """Somebody else is first, whenever we write."""

    def write(
        self, key: str, chunks: Iterable[bytes], *, expect: str | None = None, keep_until: datetime | None = None
    ) -> Stored:
        raise Conflict(f"{self.name}: somebody is faster")


@pytest.mark.parametrize("spoilt", [b"", b"garbage", b'{"format": 9}'], ids=["empty", "garbage", "of a later format"])
def test_debris_of_a_copy_goes_though_another_copy_is_spoilt(world: World, spoilt: bytes) -> None:
    """What lies whole on one target is enough; what can't be read on another is no reason to stop each turn."""
    hold(world)
    world.targets["primary"].write(layout.object_key("hotel", the_backup(world), layout.MANIFEST), [spoilt])
    backup = min(copy.id for copy in catalogue(world, "offsite").copies)
    put_hold(world.targets["vault"], "hotel", backup, Hold(who="ana", why="legal 7", at=world.clock.now(), until=None))

    assert lies_elsewhere(world, WANT, world.targets["vault"], backup)
