"""Who we are to Google: a service account's key, or what Google's own tools find. Tokens are renewed when they must be."""

from collections.abc import Callable, Mapping
from threading import Lock
from typing import TYPE_CHECKING, Any, Final

import httpx
import msgspec

from reconciler.errors import Refused, Unreachable
from reconciler.policy.redaction import Redactor
from reconciler.world.wire import open_client

if TYPE_CHECKING:
    from google.auth.credentials import Credentials

Authorise = Callable[[httpx.Request], None]

SCOPE: Final = "https://www.googleapis.com/auth/devstorage.read_write"
TOKEN_SECONDS: Final = 30.0

_MISSING: Final = "pip install 'backup-reconciler[gcs]'"


def anonymous(request: httpx.Request) -> None:
    """Nobody: for an emulator."""


def service_account(key: str, *, field: str, redactor: Redactor) -> Authorise:
    """The account whose key this is. Raises Refused where it is none, without a word of what it says."""
    google = _library(field)
    try:
        told: dict[str, Any] = msgspec.json.decode(key, type=dict[str, Any])
        redactor.learn(str(told.get("private_key", key)))
        made = google.service_account.Credentials.from_service_account_info(told, scopes=[SCOPE])
    except (msgspec.DecodeError, ValueError, google.exceptions.GoogleAuthError):
        made = None
    # Out of the handler: those errors quote the key, and would be chained.
    if made is None:
        raise Refused(f"{field} is no key of a service account", cure="give the JSON that Google made for it, as {file: PATH}")
    return _Account(field.split(".")[1], lambda: made)


def surrounding(target: str) -> Authorise:
    """Whoever Google's own tools would be: GOOGLE_APPLICATION_CREDENTIALS, gcloud's login, the machine's or pod's account."""
    google = _library(target)

    def find() -> "Credentials":
        found, _ = google.default(scopes=[SCOPE])
        credentials: Credentials = found
        return credentials

    return _Account(target, find)


class _Library:
    """What of google-auth is used, imported when a target needs it."""

    def __init__(self) -> None:
        from google.auth import default, exceptions
        from google.oauth2 import service_account as accounts

        self.default, self.exceptions, self.service_account = default, exceptions, accounts


def _library(where: str) -> _Library:
    try:
        return _Library()
    except ImportError as error:
        raise Refused(f"{where}: the library for Google's accounts is not installed", cure=_MISSING) from error


class _Account:
    """Signs requests. Safe to use from several threads."""

    def __init__(self, target: str, find: "Callable[[], Credentials]") -> None:
        self._target = target
        self._find = find
        self._lock = Lock()
        self._credentials: Credentials | None = None
        self._client = open_client(httpx.Timeout(TOKEN_SECONDS))

    def __call__(self, request: httpx.Request) -> None:
        from google.auth import exceptions

        headers: dict[str, str] = {}
        try:
            with self._lock:
                self._credentials = self._credentials or self._find()
                self._credentials.before_request(self._fetch, request.method, str(request.url), headers)  # type: ignore[no-untyped-call]  # google's own
        except exceptions.DefaultCredentialsError as error:
            cure = "set `credentials`, or GOOGLE_APPLICATION_CREDENTIALS, or run where the machine has an account"
            raise Refused(f"{self._target}: no credentials for Google were found", cure=cure) from error
        except exceptions.TransportError as error:
            cure = "see to the network and this machine's clock"
            raise Unreachable(f"{self._target}: cannot get a token: Google's accounts do not answer", cure=cure) from error
        except exceptions.GoogleAuthError as error:
            if getattr(error, "retryable", False) or _had_no_answer(error):
                what = f"{self._target}: cannot get a token: Google's accounts are busy"
                raise Unreachable(what, cure="wait") from error
            cure = "see whether the key was revoked, the account removed, or this machine's clock is wrong"
            raise Refused(f"{self._target}: Google's accounts refuse a token", cure=cure) from error
        # What google-auth lets through of files and answers that are not what they should be.
        except OSError as error:
            cure = "correct GOOGLE_APPLICATION_CREDENTIALS, or let this user read the file that it names"
            raise Refused(f"{self._target}: the credentials for Google can't be read", cure=cure) from error
        except (ValueError, TypeError, AttributeError, LookupError) as error:
            what = f"{self._target}: no token: credentials or answer are not as Google makes them"
            cure = "see to GOOGLE_APPLICATION_CREDENTIALS, and whether a proxy or a portal answers in Google's place"
            raise Refused(what, cure=cure) from error
        request.headers.update(headers)

    def _fetch(
        self,
        url: str,
        method: str = "GET",
        body: Any = None,
        headers: Mapping[str, str] | None = None,
        timeout: Any = None,
        **_: Any,
    ) -> "_Answer":
        """How google-auth asks for tokens."""
        from google.auth import exceptions

        try:
            response = self._client.request(method, url, content=body, headers=dict(headers or {}))
        except httpx.HTTPError as error:
            raise exceptions.TransportError(type(error).__name__) from error  # type: ignore[no-untyped-call]  # google's own
        return _Answer(response)


def _had_no_answer(error: Exception) -> bool:
    """Whether the machine's own account could not be asked: google-auth tells that as a refusal, but a clear no has an answer."""
    from google.auth import exceptions

    return isinstance(error.__cause__, exceptions.TransportError) and len(error.__cause__.args) == 1


class _Answer:
    """As google-auth reads one."""

    def __init__(self, response: httpx.Response) -> None:
        self.status = response.status_code
        self.headers = response.headers
        self.data = response.content
