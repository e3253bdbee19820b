"""The URL of a store, as a policy gives it: what host it names, and whether that is this machine."""

from ipaddress import ip_address
from urllib.parse import SplitResult, urlsplit

from reconciler.errors import Refused
from reconciler.policy.secret import Text


def host_of(url: str, field: str) -> str:
    """The endpoint's host. Raises Refused where it is no URL. What is wrong is not shown: a URL may hold a password."""
    if not is_one_word(url):
        # Said by itself: urlsplit passes line breaks over, and the client that is given the URL stumbles over them.
        raise Refused(f"{field} has a space, a line break or a control character in it", cure="write the URL alone, on one line")
    try:
        parts: SplitResult | None = urlsplit(url)
        host = parts.hostname if parts and parts.port != 0 else None
    except ValueError:
        parts, host = None, None
    # Out of the handler, since that error quotes the URL and would be chained.
    if parts is None or not host or parts.scheme not in ("http", "https") or "@" in parts.netloc:
        raise Refused(f"{field} is no URL of a store", cure="write https://HOST or https://HOST:PORT, without user and password")
    return host


def is_one_word(text: str) -> bool:
    """Whether neither whitespace nor control characters are in it."""
    return text.isprintable() and " " not in text


def is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")


def domain_of(host: str, kind: str) -> str:
    """What fails together with a store there, unless the policy says otherwise."""
    return "host:localhost" if is_loopback(host) else f"{kind}:{host}"


def refuse_plain(url: str, host: str, field: str) -> None:
    """Raise Refused for plain http to another machine: credentials and backups would pass for all to read."""
    if url.startswith("http:") and not is_loopback(host):
        raise Refused(f"{field} is plain http to another machine", cure="write https://; http is for an emulator on this machine")


def site_of(kind: str, endpoint: Text | None, usual: str, *parts: str, own: str) -> str:
    """Where a store's target lies, comparable with others. `usual`: the store without an endpoint, whose hosts end with `own`."""
    at = _origin(str(endpoint), own) if endpoint else ""
    return "/".join([f"{kind}:{at or usual}", *(part.strip("/") for part in parts if part.strip("/"))])


def place_in(place: str, endpoint: str | None, own: str) -> str:
    """A place with the store that it is in, where that is not the usual one: many have a bucket of the same name."""
    store = _origin(endpoint, own) if endpoint else ""
    return f"{place} at {store}" if store else place


def _origin(url: str, own: str) -> str:
    """Host and port, however they are written; empty for what is reached without an endpoint, too."""
    try:
        parts = urlsplit(url)
        host, port = (parts.hostname or "").rstrip("."), parts.port
    except ValueError:
        return url  # No URL: another finding's matter.
    if host == own or host.endswith(f".{own}"):
        return ""
    path = parts.path.rstrip("/")
    return host + (f":{port}" if port not in (None, {"http": 80, "https": 443}.get(parts.scheme)) else "") + path
