"""The promises of the policy, in the order in which they are asked. Nothing but the list."""

from reconciler.duties import (
    branches,
    copies,
    custody,
    dumps,
    holding,
    keeping,
    leftovers,
    pitr,
    retention,
    snapshots,
    verification,
)

DUTIES = (
    dumps.DUTY,
    copies.DUTY,
    retention.DUTY,
    holding.DUTY,
    keeping.DUTY,
    leftovers.DUTY,
    custody.DUTY,
    verification.DUTY,
    pitr.DUTY,
    snapshots.DUTY,
    branches.DUTY,
)
