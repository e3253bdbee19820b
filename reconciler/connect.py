"""A policy → the world that it names. The one module that knows which kinds of target and provider there are."""

import tempfile
from collections.abc import Mapping
from contextlib import suppress
from functools import partial
from pathlib import Path
from threading import Event as StopEvent
from typing import Any

import msgspec

from reconciler.backups.layout import repository_key
from reconciler.backups.records import read_repository
from reconciler.errors import NoKey, ReconcilerError, Refused
from reconciler.hook_program import HookPrograms
from reconciler.policy.kinds import Kinds
from reconciler.policy.model import Age, DatabasePolicy, Policy
from reconciler.policy.secret import Revealed, Surroundings
from reconciler.policy.sites import ONE_PLACE_CURE, in_order, one_place, shared_sites, sites_of
from reconciler.providers import PROVIDERS
from reconciler.providers.unusable import UnusableProvider
from reconciler.scratch import SCRATCHES
from reconciler.scratch.embedded import EmbeddedSettings
from reconciler.targets import TARGETS
from reconciler.targets.append_only import AppendOnly
from reconciler.targets.limited import Bucket, Limited
from reconciler.targets.read_only import ReadOnly
from reconciler.targets.retrying import Patience, Retrying
from reconciler.targets.telling import Telling
from reconciler.targets.unusable import UnusableTarget
from reconciler.world.events import Tell
from reconciler.world.facts import Identity
from reconciler.world.ports import Cache, Clock, Pool, Process, Provider, Signatures, Target, World
from reconciler.world.scratch import NoScratch, Scratch
from reconciler.world.staging import FolderStaging

KINDS = Kinds(targets=TARGETS, providers=PROVIDERS, scratches=SCRATCHES)


class Means(msgspec.Struct, frozen=True, kw_only=True):
    """What is the same for every database of a program's run."""

    surroundings: Surroundings
    clock: Clock
    process: Process
    pool: Pool
    cache: Cache
    stop: StopEvent
    tell: Tell
    token: Any
    git_commit: str | None = None
    opened: dict[str, Any] = msgspec.field(default_factory=dict)
    """Targets by name, opened once: who opens one pays for a client, and for connections of its own."""
    patiences: dict[str, Patience] = msgspec.field(default_factory=dict)
    """By target: no database waits for what another found hanging."""


def connect(policy: Policy, want: DatabasePolicy, means: Means, *, writable: bool) -> World:
    """The targets and the source of one database. Without `writable`, no target can be written to by construction.

    What can't be opened (a variable that is not set, say) is there all the same and fails whenever it is asked, so that the
    other targets go on being used.
    """
    names = in_order(want)
    shared = shared_sites(names, sites_of(policy, KINDS, means.surroundings.base))
    targets = {
        name: _second(name, shared[name])
        if name in shared
        else open_target(policy, name, means, writable=writable, rate=want.dumps.limits.rate)
        for name in sorted(names)
    }
    hooks = HookPrograms(want.name, surroundings=means.surroundings, clock=means.clock, stop=means.stop)
    return World(
        targets={name: target for name, (target, _) in targets.items()},
        domains={name: domain for name, (_, domain) in targets.items()},
        homes=_homes(policy, want, {name: target for name, (target, _) in targets.items()}, means),
        provider=open_provider(want, means),
        clock=means.clock,
        process=means.process,
        pool=means.pool,
        cache=means.cache,
        stop=means.stop,
        tell=means.tell,
        token=means.token,
        policy_digest=policy.digest,
        git_commit=means.git_commit,
        signatures=_signatures(want, means),
        identities=partial(_identities, want, means),
        staging=_staging(want, means),
        run_hook=hooks.run,
        look_at_hook=hooks.look,
        scratch=open_scratch(policy, want, means),
    )


def _homes(policy: Policy, want: DatabasePolicy, targets: Mapping[str, Target], means: Means) -> Mapping[str, Target]:
    """Of all databases of the project that its history is of."""
    if want.history_site is None:
        return {}
    names = {other.home for other in policy.databases.values() if other.history_site == want.history_site} | {want.home}
    return {
        name: targets[name] if name in targets else open_target(policy, name, means, writable=False)[0] for name in sorted(names)
    }


def _signatures(want: DatabasePolicy, means: Means) -> Signatures:
    if want.signatures is None:
        return Signatures()
    key, field = want.signatures.signing_key, f"databases.{want.name}.signatures.signing_key"
    return Signatures(
        public_keys=tuple(map(str, want.signatures.public_keys)),
        signing_key=lambda: key.reveal(means.surroundings, field=field) if key else None,
    )


def _second(name: str, first: str) -> tuple[Target, str]:
    """It can't hold a second copy: unknown, so that nothing is met by it, and the first goes on being used."""
    return UnusableTarget(name, Refused(f"{name}: {one_place(first)}", cure=ONE_PLACE_CURE)), f"unknown:{name}"


def _staging(want: DatabasePolicy, means: Means) -> FolderStaging:
    path = want.dumps.staging.path if want.dumps.staging is not None else None
    # Restores by several jobs lay their files there, unless told otherwise.
    usual = Path(tempfile.gettempdir())
    return FolderStaging(means.surroundings.base / path if path else usual, means.process, also=(usual,))


def _identities(want: DatabasePolicy, means: Means) -> tuple[Revealed, ...]:
    if not isinstance(want.encryption, Age) or want.encryption.age_identity is None:
        return ()
    field = f"databases.{want.name}.encryption.age_identity"
    try:
        return (want.encryption.age_identity.reveal(means.surroundings, field=field),)
    except Refused as error:
        raise NoKey(error.what, cure=error.cure) from error


def open_target(policy: Policy, name: str, means: Means, *, writable: bool, rate: int | None = None) -> tuple[Target, str]:
    """The target and its failure domain. `rate`: bytes in a second that may be written to it."""
    settings: Any = policy.targets[name]
    target = means.opened.get(name)
    if target is None:
        make = _kinds(KINDS.targets)[type(settings)]
        try:
            target = means.opened[name] = make(
                name, settings, surroundings=means.surroundings, clock=means.clock, stop=means.stop
            )
        except ReconcilerError as error:
            return UnusableTarget(name, error), f"unknown:{name}"
    limited: Target = Limited(target, Bucket(rate, means.clock, means.stop)) if rate is not None else target
    patient: Target = Retrying(limited, clock=means.clock, stop=means.stop, patience=means.patiences.setdefault(name, Patience()))
    if getattr(settings, "append_only", False):
        patient = AppendOnly(patient)
    return (Telling(patient, means.tell) if writable else ReadOnly(patient)), str(target.domain)


def open_provider(want: DatabasePolicy, means: Means) -> Provider:
    """Who hosts the database."""
    make = _kinds(KINDS.providers)[type(want.source)]
    try:
        provider: Provider = make(want.name, want.source, surroundings=means.surroundings, clock=means.clock, stop=means.stop)
    except ReconcilerError as error:
        return UnusableProvider(error, keeps_history=hasattr(want.source, "history_site"))
    return provider


def open_scratch(policy: Policy, want: DatabasePolicy, means: Means) -> Scratch:
    """Where its restores are rehearsed."""
    settings: Any = policy.scratch if policy.scratch is not None else EmbeddedSettings()
    named = getattr(want.source, "client_bin", None)
    client_bin = means.surroundings.base / Path(named).expanduser() if named else None
    make = _kinds(KINDS.scratches)[type(settings)]
    try:
        scratch: Scratch = make(
            want.name,
            settings,
            surroundings=means.surroundings,
            clock=means.clock,
            stop=means.stop,
            client_bin=client_bin,
            sources=partial(known_sources, policy, means),
        )
    except ReconcilerError as error:
        return NoScratch(error)
    return scratch


def known_sources(policy: Policy, means: Means) -> tuple[Identity, ...]:
    """Every source of the policy, as seen now and as its targets remember it: what is never restored into.

    Raises Refused where one of them can't be told: it may be just the place that somebody asks about.
    """
    targets = {name: open_target(policy, name, means, writable=False)[0] for name in policy.targets}
    wants = tuple(policy.databases.values())
    known = means.pool.map(lambda want: _known_as(want, targets, means), wants)
    for want in (want for want, found in zip(wants, known, strict=True) if not found):
        what = f"the source of {want.name} can't be seen, so nobody can tell whether it is what would be restored into"
        raise Refused(what, cure="see to it that the source or one of its targets answers, or take it out of this policy")
    return tuple(identity for found in known for identity in found)


def _known_as(want: DatabasePolicy, targets: Mapping[str, Target], means: Means) -> list[Identity]:
    found: list[Identity] = []
    with suppress(ReconcilerError):
        found.append(open_provider(want, means).source().facts().identity)
    for name in in_order(want):
        with suppress(ReconcilerError):
            found.append(read_repository(targets[name], repository_key(want.name)).identity)
    return found


def _kinds(kinds: tuple[Any, ...]) -> Mapping[type, Any]:
    return {kind.settings: kind.connect for kind in kinds}
