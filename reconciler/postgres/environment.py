"""What of the process's environment may reach libpq. Standard library only, so that the command line can call it at its start."""

import os
from collections.abc import Mapping, MutableMapping

INHERITED = ("PATH", "HOME", "TMPDIR", "SSL_CERT_FILE", "SSL_CERT_DIR")
"""HOME holds `.pgpass` and `.postgresql/`; the certificate variables are OpenSSL's, and our own sessions obey them too."""


def forget_libpq_environment(environ: MutableMapping[str, str] | None = None) -> None:
    """Remove every `PG*` variable, so that a session is what its url says and nothing else.

    libpq would otherwise fill each parameter that the url leaves open: a stray PGOPTIONS or PGSSLMODE changes what is dumped,
    and how safely. A policy may refer to such a variable by name: its references are resolved from a copy made before.
    """
    variables = os.environ if environ is None else environ
    for name in [name for name in variables if name.startswith("PG")]:
        del variables[name]


def child_environment(password: str | None, environ: Mapping[str, str] | None = None) -> dict[str, str]:
    """The whole environment of a client program: built, not inherited. Its messages are in English, as we read them."""
    ours = os.environ if environ is None else environ
    built = {name: ours[name] for name in INHERITED if name in ours}
    built |= {"LANG": "C.UTF-8", "LC_MESSAGES": "C"}
    if password is not None:
        built["PGPASSWORD"] = password
    return built
