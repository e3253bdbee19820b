"""Who we are to Azure: an account's key, a shared access signature, or an identity that Azure's own tools find."""

import hmac
from base64 import b64decode, b64encode
from binascii import Error as NotBase64
from collections.abc import Callable
from email.utils import formatdate
from threading import Lock
from typing import TYPE_CHECKING, Final

import httpx

from reconciler.errors import Refused, Unreachable

if TYPE_CHECKING:
    from azure.identity import DefaultAzureCredential

Authorise = Callable[[httpx.Request], None]

API: Final = "2023-11-03"
"""The version of the API that is spoken, and so the one that its answers keep to."""

SCOPE: Final = "https://storage.azure.com/.default"

_SIGNED: Final = (
    "content-encoding", "content-language", "content-length", "content-md5", "content-type", "date",
    "if-modified-since", "if-match", "if-none-match", "if-unmodified-since", "range",
)  # fmt: skip


def shared_key(account: str, key: str, *, field: str) -> Authorise:
    """An account's key signs each request. Raises Refused where it is none, without showing it."""
    try:
        secret = b64decode(key, validate=True)
    except (NotBase64, ValueError):
        secret = b""
    # Out of the handler: that error could be chained.
    if not secret:
        raise Refused(f"{field} is no key of a storage account", cure="copy it whole: about 88 letters of Base64")

    def authorise(request: httpx.Request) -> None:
        _date(request)
        signature = b64encode(hmac.digest(secret, _to_sign(account, request).encode(), "sha256")).decode("ascii")
        request.headers["Authorization"] = f"SharedKey {account}:{signature}"

    return authorise


def shared_access(token: str) -> Authorise:
    """A signature that somebody made beforehand goes with each request."""
    query = httpx.QueryParams(token.removeprefix("?"))

    def authorise(request: httpx.Request) -> None:
        _date(request)
        request.url = request.url.copy_merge_params(query)

    return authorise


def surrounding(target: str) -> Authorise:
    """Whoever Azure's own tools would be: its environment variables, the machine's or pod's identity, `az login`."""
    try:
        import azure.identity
    except ImportError as error:
        what = f"{target}: the library for Azure's identities is not installed"
        raise Refused(what, cure="pip install 'backup-reconciler[azure]', or set `account_key` or `sas_token`") from error
    return _Identity(target, azure.identity.DefaultAzureCredential)


class _Identity:
    """Signs requests with tokens, renewed when they must be. Safe to use from several threads."""

    def __init__(self, target: str, find: "Callable[[], DefaultAzureCredential]") -> None:
        self._target = target
        self._find = find
        self._lock = Lock()
        self._credential: DefaultAzureCredential | None = None

    def __call__(self, request: httpx.Request) -> None:
        from azure.core.exceptions import AzureError, ClientAuthenticationError

        _date(request)
        try:
            with self._lock:
                self._credential = self._credential or self._find()
                token = self._credential.get_token(SCOPE).token
        except ClientAuthenticationError as error:
            cure = "set `account_key` or `sas_token`, or run where the machine has an identity, or `az login`"
            raise Refused(f"{self._target}: no usable identity for Azure was found", cure=cure) from error
        except AzureError as error:
            cure = "see to the network and this machine's clock"
            raise Unreachable(f"{self._target}: cannot get a token from Azure", cure=cure) from error
        except (OSError, ValueError) as error:
            # What its environment variables name is no file, no tenant, no authority.
            what = f"{self._target}: what the environment says of an identity for Azure can't be used"
            cure = "correct AZURE_TENANT_ID, AZURE_AUTHORITY_HOST, AZURE_CLIENT_CERTIFICATE_PATH and their kin"
            raise Refused(what, cure=cure) from error
        request.headers["Authorization"] = f"Bearer {token}"


def _date(request: httpx.Request) -> None:
    request.headers["x-ms-date"] = formatdate(usegmt=True)
    request.headers["x-ms-version"] = API


def _to_sign(account: str, request: httpx.Request) -> str:
    """As Azure builds the same text from what arrives."""
    headers = {name.lower(): value.strip() for name, value in request.headers.items()}
    if headers.get("content-length") == "0":
        headers["content-length"] = ""
    ours = "".join(f"{name}:{headers[name]}\n" for name in sorted(headers) if name.startswith("x-ms-"))
    path = request.url.raw_path.decode("ascii").partition("?")[0]
    query = "".join(f"\n{name.lower()}:{value}" for name, value in sorted(request.url.params.multi_items()))
    plain = "\n".join(headers.get(name, "") for name in _SIGNED)
    return f"{request.method}\n{plain}\n{ours}/{account}{path}{query}"
