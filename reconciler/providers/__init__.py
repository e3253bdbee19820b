"""Who hosts databases: the list of what a policy may name as `source.provider`."""

from reconciler.providers import postgres

PROVIDERS = (postgres.KIND,)
