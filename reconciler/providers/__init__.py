"""Who hosts databases: the list of what a policy may name as `source.provider`."""

from reconciler.providers import postgres
from reconciler.providers.neon import settings as neon

PROVIDERS = (postgres.KIND, neon.KIND)
