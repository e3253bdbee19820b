"""What a plan is: steps, what blocks some of them, how the objectives stand. Data only; the same world gives the same bytes."""

from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from typing import Any, ClassVar, Literal

import msgspec

from reconciler.errors import Finding
from reconciler.policy.model import DatabasePolicy, Occurrence
from reconciler.world.facts import Observation
from reconciler.world.lazily import lazily
from reconciler.world.ports import World

Effect = Literal["change", "create", "delete"]
EFFECTS: tuple[Effect, ...] = ("change", "create", "delete")
Lane = Literal["keep", "prove"]
Rule = Literal["guard", "unknown", "identity", "clock", "freeze", "impossible"]
Status = Literal["met", "at_risk", "violated", "unproven"]

_ENCODER = msgspec.json.Encoder(order="sorted")


class Action(msgspec.Struct, frozen=True, kw_only=True, tag_field="kind", dict=True):
    """One thing to do. Its fields are its identity: no reasons, ages or sizes among them."""

    effect: ClassVar[Effect]
    waits: ClassVar[bool] = True
    """For the lease. What only protects does not: nobody's long dump may keep it from being done."""
    first: ClassVar[bool] = False
    """Before the others of its effect: what is lost by waiting can't be made up for."""

    database: str
    frees: ClassVar[bool] = False
    """Whether all that it removes was given up earlier: it goes on although something failed in the same turn."""
    destroys: ClassVar[bool] = False
    """Whether it takes away what no grace brings back: never done without a person's digest."""
    hooked: ClassVar[Occurrence | None] = None
    """As what hooks of the policy know it; None: none runs beside it."""

    # Each is asked for again and again while a plan is made and carried out.
    @lazily
    def id(self) -> str:
        """Digest of kind, database and parameters; a golden file holds it."""
        return sha256(self.encoded).hexdigest()[:16]

    @lazily
    def encoded(self) -> bytes:
        """The parameters, always in the same order."""
        return _ENCODER.encode(self.parameters)

    @lazily
    def parameters(self) -> Mapping[str, Any]:
        """Kind, database and the rest, with instants in UTC whatever zone they came in."""
        return {name: _in_utc(value) for name, value in msgspec.to_builtins(self, builtin_types=(datetime,)).items()}

    @property
    def loses(self) -> str | None:
        """The backup that the database no longer has afterwards: what the guard counts."""
        return None

    @property
    def removes(self) -> str | None:
        """The backup that can't come back afterwards."""
        return None

    @property
    def loses_snapshot(self) -> str | None:
        """The same of a snapshot at the provider, by its name."""
        return None

    @property
    def kind(self) -> str:
        """The name of its kind, as in plans."""
        return str(self.__struct_config__.tag)

    def perform(self, world: World, want: DatabasePolicy) -> str:
        """Do it, and say in a sentence what came of it. Raises the typed errors."""
        raise NotImplementedError


def _in_utc(value: Any) -> Any:
    return value.astimezone(UTC) if isinstance(value, datetime) else value


class Shown(msgspec.Struct, frozen=True, kw_only=True):
    """How a step is shown: outside its identity, so that the renderer knows no kind."""

    does: str
    """A verb and its object, e.g. `take dump`."""
    to: str = ""
    why: str = ""
    counted: str = ""
    """`one|many`: steps that do the same for the same reason are shown as one line, with this noun."""
    bytes: int | None = None
    expected_bytes: int | None = None
    """How much will pass, for a bar, where that is not what is shown: a guess from the last run."""


class Step(msgspec.Struct, frozen=True, kw_only=True):
    """An action and how it is shown."""

    action: Action
    shown: Shown


class Blocked(msgspec.Struct, frozen=True, kw_only=True):
    """A step that a safety rule holds back."""

    step: Step
    by: Rule
    why: str
    cure: str = ""


class Condition(msgspec.Struct, frozen=True, kw_only=True):
    """How one objective stands."""

    name: Literal["rpo", "disaster_rpo", "copies", "pitr", "verified"]
    status: Status
    objective: timedelta
    says: str
    restore_point: datetime | None = None
    """The instant that it rests on."""


class Loss(msgspec.Struct, frozen=True, kw_only=True):
    """One thing that may be lost, with all that fails together with it."""

    of: str
    """A domain, or `the age key`."""
    leaves: datetime | None
    """The newest restore point that is left; None: not one."""
    says: str


class Wait(msgspec.Struct, frozen=True, kw_only=True):
    """Something that is due, and may not start yet."""

    what: str
    """A noun: `dump`."""
    until: datetime


class Due(msgspec.Struct, frozen=True, kw_only=True):
    """What a duty asks for, what it noticed, and when the clock alone could make it ask for more."""

    steps: tuple[Step, ...] = ()
    findings: tuple[Finding, ...] = ()
    next_at: datetime | None = None
    stuck: bool = False
    """Something is due and can't even be planned; a finding says why."""
    waiting: tuple[Wait, ...] = ()
    """What is due and not asked for yet; a finding says why."""


class Duty(msgspec.Struct, frozen=True, kw_only=True):
    """One promise of the policy. `due` is pure."""

    name: str
    lane: Lane
    due: Callable[[DatabasePolicy, Observation, datetime], Due]
    actions: tuple[type[Action], ...]


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """Of one database. `steps` may all be done, in their order; none depends on another."""

    database: str
    place: str
    policy_digest: str
    steps: tuple[Step, ...]
    blocked: tuple[Blocked, ...]
    conditions: tuple[Condition, ...]
    findings: tuple[Finding, ...]
    next_at: datetime | None
    blind: bool = False
    """Not one target could be seen: this plan knows nothing."""
    stuck: bool = False
    """A dump is due and can't even be planned; a finding says why."""
    waiting: tuple[Wait, ...] = ()
    """What is due and not among the steps yet; a finding says why."""
    losses: tuple[Loss, ...] = ()
    """What each loss would leave."""
    keeps_history: bool = False
    """Whether the provider keeps one."""
    foreign: bool = False
    """What lies on the targets belongs to another source: nothing is done, and a person must look."""

    @property
    def to_approve(self) -> frozenset[str]:
        """Ids of what must be approved before it is done: all but creations."""
        return frozenset(step.action.id for step in self.steps if step.action.effect != "create")


class Outcome(msgspec.Struct, frozen=True, kw_only=True):
    """What became of an action."""

    action: str
    database: str
    does: str
    result: Literal["done", "failed", "skipped"]
    says: str
    cure: str = ""


def digest_of(ids: Iterable[str]) -> str:
    """One short name for a set of actions: what `--allow-destructive` takes."""
    return sha256("\n".join(sorted(ids)).encode()).hexdigest()[:12]


def blocked_digest(plan: Plan) -> str | None:
    """The digest that would let through what the guard holds back; None when it holds back nothing."""
    ids = [held.step.action.id for held in plan.blocked if held.by == "guard"]
    return digest_of(ids) if ids else None


def in_order(steps: Iterable[Step]) -> tuple[Step, ...]:
    """Change, create, delete; within these the first ones, then by kind and oldest first, as ids of backups sort by instant."""
    return tuple(sorted(steps, key=_place))


def _place(step: Step) -> tuple[int, bool, str, bytes]:
    action = step.action
    return EFFECTS.index(action.effect), not action.first, action.kind, action.encoded


class Consent(msgspec.Struct, frozen=True, kw_only=True):
    """What may be done: all that is freshly planned (`approved` None), or of changes and deletions just the approved ids."""

    approved: frozenset[str] | None = None
    allow_destructive: str | None = None


class Agreed(msgspec.Struct, frozen=True, kw_only=True):
    """What a consent and a fresh plan have in common, and what not."""

    steps: tuple[Step, ...]
    not_approved: tuple[Step, ...]


def agree(consent: Consent, fresh: Plan) -> Agreed:
    """Done is what is approved *and* freshly planned. Creations need no approval; the guard's digest approves what it names."""
    released: tuple[Step, ...] = ()
    if consent.allow_destructive is not None and consent.allow_destructive == blocked_digest(fresh):
        released = tuple(held.step for held in fresh.blocked if held.by == "guard")
    agreed: list[Step] = list(released)
    left: list[Step] = []
    for step in fresh.steps:
        yes = consent.approved is None or step.action.effect == "create" or step.action.id in consent.approved
        (agreed if yes else left).append(step)
    return Agreed(steps=in_order(agreed), not_approved=tuple(left))
