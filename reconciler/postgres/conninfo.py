"""A database's address as libpq's parameters, and what of it whom may be shown. Reading one from text lies elsewhere."""

from collections.abc import Mapping
from ipaddress import ip_address

from psycopg.conninfo import make_conninfo
from psycopg.pq import Conninfo as PqConninfo

from reconciler.policy.redaction import Redactor
from reconciler.postgres.environment import child_environment

DEFAULTS = {
    "connect_timeout": "10",
    "keepalives": "1",
    "keepalives_idle": "30",
    "keepalives_interval": "10",
    "keepalives_count": "3",
}
"""Seconds, and probes: a peer that vanished is noticed within a minute, not after the two hours that Linux takes."""


class ChildAddress:
    """How a client program is told where to connect: `conninfo` may be seen by all, `environment` may not."""

    def __init__(self, conninfo: str, environment: dict[str, str]) -> None:
        self.conninfo = conninfo
        self.environment = environment


class Conninfo:
    """A database's address. A plain class that no encoder knows, and whose `repr` holds no secret."""

    def __init__(self, parameters: Mapping[str, str]) -> None:
        self._parameters = dict(parameters)

    def __repr__(self) -> str:
        return f"Conninfo({self.place})"

    @property
    def database(self) -> str:
        return self._parameters["dbname"]

    @property
    def hosts(self) -> tuple[str, ...]:
        """As the url names them: host names, addresses, or folders of unix sockets."""
        return tuple((self._parameters.get("host") or self._parameters["hostaddr"]).split(","))

    @property
    def addresses(self) -> tuple[str, ...]:
        """The hosts, each with its port where the url names one."""
        ports = self._parameters.get("port", "").split(",")
        ports = ports * len(self.hosts) if len(ports) == 1 else ports
        return tuple(f"{host}:{port}" if port else host for host, port in zip(self.hosts, ports, strict=False))

    @property
    def place(self) -> str:
        """Where it is, for people: no user and no password."""
        return f"postgres {','.join(self.addresses)}/{self.database}"

    @property
    def domain(self) -> str:
        """What fails together with it: its host or hosts; this machine for loopback and unix sockets."""
        return "host:" + ",".join(dict.fromkeys("localhost" if is_local(host) else host.lower() for host in self.hosts))

    def pinned(self, *, host: str, hostaddr: str, port: int) -> "Conninfo":
        """The same, narrowed to the one server that a session reached: of several hosts, a dump must meet its own snapshot."""
        narrowed = {name: value for name, value in self._parameters.items() if name not in ("hostaddr", "load_balance_hosts")}
        narrowed |= {"host": host, "port": str(port)} | ({"hostaddr": hostaddr} if hostaddr else {})
        return Conninfo(narrowed)

    @property
    def user(self) -> str:
        """Who connects, where the address says it."""
        return self._parameters.get("user", "")

    def in_database(self, database: str) -> "Conninfo":
        """The same server and role, in another database."""
        return Conninfo(self._parameters | {"dbname": database})

    def as_role(self, user: str, password: str, database: str) -> "Conninfo":
        """The same server, as another role in another database."""
        return Conninfo(self._parameters | {"user": user, "password": password, "dbname": database})

    def verified(self, authorities: str) -> "Conninfo":
        """The same over TLS alone, its certificate held against the authorities in that file and the host's name."""
        return Conninfo(self._parameters | {"sslmode": "verify-full", "sslrootcert": authorities})

    def for_session(self, application_name: str) -> dict[str, str]:
        """The keyword arguments of a session of ours, password included."""
        return DEFAULTS | self._parameters | {"application_name": application_name, "client_encoding": "UTF8"}

    def for_child(self, application_name: str, settings: Mapping[str, str]) -> ChildAddress:
        """The address for a client program; `settings` are added to the url's own `options`, and win over a role's.

        The encoding stays the server's own: an archive is written in the client's encoding, and any other would be converted.
        """
        seen = DEFAULTS | self._parameters | {"application_name": application_name}
        password = seen.pop("password", None)
        seen.pop("client_encoding", None)
        return ChildAddress(make_conninfo(**_with(seen, settings)), child_environment(password))

    def for_environment(self, application_name: str, settings: Mapping[str, str]) -> dict[str, str]:
        """The whole environment of a client program that takes no address: libpq's variables, password included.

        `settings` as in `for_child`.
        """
        seen = _with(DEFAULTS | self._parameters | {"application_name": application_name}, settings)
        variables = {option.keyword.decode(): option.envvar for option in PqConninfo.get_defaults()}
        named = {variables[name]: value for name, value in seen.items() if variables.get(name)}
        return child_environment(None) | {variable.decode(): value for variable, value in named.items() if variable}

    def redact(self, text: str) -> str:
        """The text with the password, in whatever form, replaced."""
        redactor = Redactor()
        redactor.learn(self._parameters.get("password", ""))
        return redactor.redact(text)


def _with(parameters: Mapping[str, str], settings: Mapping[str, str]) -> dict[str, str]:
    """The settings added to the parameters' own `options`."""
    options = [parameters.get("options", ""), *(f"-c {name}={value}" for name, value in settings.items())]
    merged = " ".join(option for option in options if option)
    return dict(parameters) | ({"options": merged} if merged else {})


def is_local(host: str) -> bool:
    """Whether a host is this machine: loopback, or a folder of unix sockets (`@` begins an abstract one)."""
    if host.startswith(("/", "@")) or host.lower() == "localhost":
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False
