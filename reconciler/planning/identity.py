"""Whose backups these are: the source that the policy names must be the one that the catalogues were begun for."""

from datetime import datetime, timedelta

from reconciler.errors import Finding
from reconciler.planning.past import seen_history
from reconciler.world.facts import Catalogue, Identity, Known, Observation

APART = (
    "give one of these targets another prefix, or move away what should not lie there (a repository.json alone, if the "
    "backups beside it are of the other id); nothing here is touched until then"
)


def repository_id(have: Observation) -> str | None:
    """The id that all known catalogues agree on; None where nothing was begun yet. Ask `disagreement` first."""
    return next(iter(sorted(_ids(have))), None)


def _ids(have: Observation) -> set[str]:
    """From repository.json and from manifests: one that lost its repository.json is still the same repository."""
    ids = set()
    for catalogue in have.known().values():
        if catalogue.repository is not None:
            ids.add(catalogue.repository.id)
        else:
            ids |= {copy.repository for copy in catalogue.copies if copy.repository and copy.state != "foreign"}
    return ids


def disagreement(have: Observation) -> Finding | None:
    """Why all of it is foreign to this source, or None."""
    return have.once(_disagreement)


def _disagreement(have: Observation) -> Finding | None:
    ids = _ids(have)
    if len(ids) > 1:
        what = f"the targets hold different repositories under {have.database}/: {', '.join(sorted(ids))}"
        return Finding(severity="error", where=have.database, what=what, cure=APART)
    begun = {name: identity for name, catalogue in have.known().items() if (identity := _identity(catalogue)) is not None}
    if isinstance(have.source, Known):
        seen = have.source.value.identity
        for target, kept in begun.items():
            if kept != seen:
                what = f"{have.database}/ on {target} holds the backups of {kept}, and the source is {seen}"
                if _took_its_place(have, kept):
                    what += ", which took its place when a snapshot was restored"
                    cure = f"`reconcile adopt {have.database}`, if it was restored on purpose; nothing here is touched until then"
                    return Finding(severity="error", where=have.database, what=what, cure=cure)
                return Finding(severity="error", where=have.database, what=what, cure=_cure(have.database))
    elif len(set(begun.values())) > 1:
        said = "; ".join(f"{target} of {kept}" for target, kept in begun.items())
        what = f"the targets hold the backups of different sources under {have.database}/: {said}"
        return Finding(severity="error", where=have.database, what=what, cure=_cure(have.database))
    return None


def _cure(database: str) -> str:
    return (
        f"if it is the same database after a move or an upgrade, `reconcile adopt {database}`; else give it another name or "
        "prefix, or point the source back; nothing here is touched until then"
    )


def _took_its_place(have: Observation, kept: Identity) -> bool:
    """Where the provider tells: a snapshot that was restored and finalized has another branch id, and the same name."""
    facts = seen_history(have)
    replaced = facts.protected.replaced if facts is not None else None
    return replaced is not None and kept.cluster.rpartition("/")[2] == replaced


def _identity(catalogue: Catalogue) -> Identity | None:
    """For whom it was begun. Where repository.json is lost, the newest backup tells: it came after any adoption."""
    if catalogue.repository is not None:
        return catalogue.repository.identity
    return next((copy.identity for copy in catalogue.copies if copy.identity is not None and copy.state != "foreign"), None)


LATELY = timedelta(days=7)


def moved_cure(database: str) -> str:
    """What to do about two servers of one identity."""
    return (
        f"if it is one and the same database, `reconcile adopt {database}`; if one is a clone (a promoted standby, a restored "
        "base backup), give it another name or prefix; nothing is deleted meanwhile"
    )


def elsewhere(have: Observation, now: datetime) -> str:
    """Why another server may be writing here under the same identity, as a physical clone has it; empty where none seems to.

    A database that moved looks the same for a week; then its dumps all come from the new place.
    """
    if not isinstance(have.source, Known):
        return ""  # Nobody knows where it is; and nothing is deleted for that alone.
    known = have.known().values()
    vouched = {have.place, *(place for one in known if one.repository is not None for place in one.repository.places)}
    copies = (copy for one in known for copy in one.copies if copy.state == "whole" and copy.instant > now - LATELY)
    other = next((copy.place for copy in copies if copy.place and copy.place not in vouched), None)
    return f"backups of these days were dumped from {other}, and the source is {have.place}" if other else ""


def emptied(have: Observation) -> list[Finding]:
    """Targets with nothing on them that others' records name: never begun after all, emptied, or a disk that is not mounted."""
    known = have.known()
    found = []
    for name, seen in known.items():
        named = [
            other
            for other, one in known.items()
            if one.repository is not None and name in one.repository.targets and any(copy.state == "whole" for copy in one.copies)
        ]
        if named and seen.repository is None and not seen.copies and not seen.tombstones:
            what = f"{name} holds nothing of {have.database}, though repository.json on {named[0]} names it"
            cure = "if it should (a disk that is not mounted, another bucket or prefix), see to that; else it is filled anew"
            found.append(Finding(severity="warning", where=name, what=what, cure=cure))
    return found
