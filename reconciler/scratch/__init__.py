"""Where restores may be rehearsed: the list of what a policy may name as `scratch.type`."""

from reconciler.scratch import embedded, postgres

SCRATCHES = (embedded.KIND, postgres.KIND)
