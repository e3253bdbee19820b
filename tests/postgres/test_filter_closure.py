"""Rule 11 over the pure code: what is left out by name is just that, with all that hangs on it."""

from hypothesis import given
from hypothesis import strategies as st

from reconciler.postgres.filters import Relation, _with_all


@st.composite
def known(draw: st.DrawFn) -> dict[int, Relation]:
    """Relations, some of which hang on others that come before them: partitions, and sequences of columns."""
    count = draw(st.integers(1, 12))
    above = {oid: draw(st.integers(0, oid - 1)) for oid in range(1, count + 1)}
    hangs = {oid: tuple(one for one, upper in above.items() if upper == oid) for oid in above}
    return {
        oid: Relation(oid=oid, schema="public", relation=f"r{oid}", kind=draw(st.sampled_from("rpvmS")), hangs=hangs[oid])
        for oid in above
    }


@given(known(), st.data())
def test_what_hangs_on_it_goes_with_it_and_nothing_else(relations: dict[int, Relation], data: st.DataObject) -> None:
    """Closed, and the smallest such set: each that goes is named, or hangs on one that goes."""
    named = data.draw(st.sets(st.sampled_from(sorted(relations))))

    gone = _with_all(relations, [relations[oid] for oid in named])

    assert named <= gone
    assert all(set(relations[oid].hangs) <= gone for oid in gone)
    hanging = {one for oid in gone for one in relations[oid].hangs}
    assert gone <= named | hanging
