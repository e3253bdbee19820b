"""Git as a program that is run: under nobody's configuration, without hooks, without prompts; what its complaints mean."""

import os
import re
import shutil
import signal
import subprocess
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from threading import Event, Thread, local
from typing import Final
from urllib.parse import unquote, urlsplit

import msgspec

from reconciler.errors import ReconcilerError, Refused, Stopped, Unreachable

_SETTINGS: Final = {
    "core.hooksPath": os.devnull,
    "core.fsync": "all",
    "core.quotePath": "false",
    "core.askPass": "",
    "credential.helper": "",
    "gc.autoDetach": "false",
    "protocol.ext.allow": "never",
    "http.lowSpeedLimit": "1000",
    "http.lowSpeedTime": "60",
    "lfs.dialtimeout": "10",
    "lfs.activitytimeout": "60",
    "lfs.locksverify": "false",
    "lfs.transfer.maxretries": "3",
}

END_SECONDS: Final = 5.0
"""Time that is left to git to take its locks away, once it is asked to end."""


def _status(codes: str) -> str:
    """As git, curl and git-lfs tell what a host answered. The digits alone stand in many a hash, too."""
    return rf"(?:\bHTTP|\breturned error:|\bstatus(?: code)?:?) (?:{codes})\b|\[(?:{codes})\]"


_SILENT: Final = re.compile(
    r"could not resolve host|name or service not known|connection (refused|reset|timed out|closed)|operation (timed out|too slow)"
    # All but the two by which git-lfs is told that there is no room, and no traffic left.
    r"|network is unreachable|no route to host|timeout|unexpected disconnect|early eof|" + _status(r"429|5(?!0[79])\d\d"),
    re.IGNORECASE,
)
_CURES: Final = (
    # As git says it of a file here: not what a remote tells of its own, nor ssh.
    (r"^(?:fatal|error): .*(: permission denied|insufficient permission for adding an object.*|: read-only file system)$",
     "let the user that runs `reconcile` write in that folder"),
    (r"authentication failed|could not read (username|password)|permission denied|authorization|" + _status("40[13]"),
     "give the account behind `token`, or this user's ssh key, the right to push to that repository"),
    (r"does not (appear to be|exist)|not found|repository .* not exist|no such file or directory|" + _status("404"),
     "make the repository there, or correct `remote`"),
    (r"host key verification failed", "put the remote's host key into this user's known_hosts, having checked it"),
    (r"dubious ownership", "let the user that runs `reconcile` own that folder"),
    (_status("413"), "let the host take files of that size, or set `max_object` to what it takes: a dump fails early then"),
    (_status("509"), "wait until the host's limit on traffic begins anew, or have it raised"),
    (r"no space left|quota|storage limit|" + _status("507"), "free space there, raise the quota, or shorten the retention"),
    (r"certificate", "name the authority of the remote's certificate in GIT_SSL_CAINFO"),
)  # fmt: skip

_KEPT: Final = ("PATH", "HOME", "LANG", "TMPDIR", "SSH_AUTH_SOCK", "GIT_SSL_CAINFO", "GIT_SSL_CAPATH", "SSL_CERT_FILE",
                "HTTPS_PROXY", "https_proxy", "NO_PROXY", "no_proxy", "ALL_PROXY", "all_proxy")  # fmt: skip


class Login(msgspec.Struct, frozen=True, kw_only=True):
    """What lets us push over https."""

    user: str
    token: str

    def __repr__(self) -> str:
        return f"Login(user={self.user!r})"


class Git:
    """Git at work in one bare repository. Safe to use from several threads."""

    def __init__(
        self,
        target: str,
        root: Path,
        *,
        remote: str | None,
        login: Login | None,
        environ: Mapping[str, str],
        stop: Event,
    ) -> None:
        self._target, self._root, self._stop = target, root, stop
        self._remote, self._login, self._environ = remote, login, environ
        self._place = remote or str(root)
        self._environment = _environment(environ, remote, login)
        self.holding: Final = local()
        """`descriptor`: of the lock that this thread holds, or None. Children hold it too."""

    def ask(self, *words: str, given: bytes = b"", within: bool = True) -> bytes:
        """What it answers. Raises Refused, Unreachable, Stopped."""
        done = self.run(*words, given=given, within=within)
        if done.returncode:
            raise self.fault(words[0] if words[0] != "lfs" else " ".join(words[:2]), done)
        return done.stdout

    def at(self, root: Path, *, holding: int) -> "Git":
        """The same for another repository, for this thread alone: its children hold that lock."""
        other = Git(self._target, root, remote=self._remote, login=self._login, environ=self._environ, stop=self._stop)
        other.holding.descriptor = holding
        return other

    def run(
        self, *words: str, given: bytes = b"", within: bool = True, answers: int = subprocess.PIPE, traced: bool = False
    ) -> "subprocess.CompletedProcess[bytes]":
        """Until it has ended, well or not. `within`: at work in the repository, which must be there then.

        `traced`: its complaints show what it was sent as well.
        """
        process = self._start(*words, within=within, answers=answers, traced=traced)
        try:
            pending: bytes | None = given
            while True:
                try:
                    out, complaint = process.communicate(pending, timeout=0.5)
                    return subprocess.CompletedProcess(process.args, process.returncode, out or b"", complaint)
                except subprocess.TimeoutExpired:
                    pending = None
                    if self._stop.is_set():
                        raise Stopped(f"asked to stop while git was at work for {self._target}") from None
        finally:
            _end(process)

    def _start(self, *words: str, within: bool, answers: int, traced: bool) -> "subprocess.Popen[bytes]":
        holding: int | None = getattr(self.holding, "descriptor", None)
        git = shutil.which("git", path=self._environment.get("PATH"))
        if git is None:
            raise Refused(f"{self._target}: git is not installed", cure="install git and git-lfs")
        try:
            return subprocess.Popen(
                [git, *(["--git-dir", str(self._root)] if within else []), *words],
                stdin=subprocess.PIPE,
                stdout=answers,
                stderr=subprocess.PIPE,
                env=self._environment | ({"GIT_TRACE_PACKET": "1"} if traced else {}),
                cwd=self._root if within and self._root.is_dir() else None,
                # A child that outlives us keeps the lock as long as it lives.
                pass_fds=() if holding is None else (holding,),
                start_new_session=True,  # Ctrl-C is ours to hear, and its children end with it
            )
        except OSError as error:
            raise Unreachable(f"{self._target}: cannot start git: {error.strerror}") from error

    def fault(self, verb: str, done: "subprocess.CompletedProcess[bytes]") -> ReconcilerError:
        """What it complained of, as an error of ours."""
        text = (done.stderr + b"\n" + done.stdout).decode(errors="replace")
        what = f"{self._target}: git {verb} failed in {self._place}"
        if "'lfs' is not a git command" in text:
            return Refused(f"{self._target}: git-lfs is not installed", cure="install git-lfs")
        if _SILENT.search(text):
            return Unreachable(what, cure="see to the network and the remote")
        for pattern, cure in _CURES:
            if re.search(pattern, text, re.IGNORECASE | re.MULTILINE):
                return Refused(what, cure=cure)
        line = next((line for line in text.splitlines() if line.startswith(("fatal:", "error:", "batch response:"))), "")
        return Unreachable(f"{what} ({line[:200] or f'exit {done.returncode}'})", cure="see whether disk and remote are in order")


def _end(process: "subprocess.Popen[bytes]") -> None:
    """End it where it still runs, and all that it started.

    It is asked first: locks that a killed git leaves in a folder of a remote would stay, and no push go through ever after.
    """
    if process.returncode is not None or process.stderr is None:
        return
    # All of them hold the write end of stderr: once that is closed, all are gone.
    hearing = Thread(target=process.stderr.read, daemon=True)
    # Until it is reaped, the number of its group can't be another's.
    with suppress(ProcessLookupError, PermissionError):  # macOS answers EPERM for a group of zombies
        os.killpg(process.pid, signal.SIGTERM)
        hearing.start()
        hearing.join(END_SECONDS)
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def folder_of(remote: str) -> Path | None:
    """Of a file URL, as git reads it; None for any other remote."""
    return Path("/" + unquote(remote.removeprefix("file://")).lstrip("/")) if remote.startswith("file://") else None


def _host(remote: str) -> str:
    """Of a URL: what git and git-lfs compare when they look for a name and a token."""
    parts = urlsplit(remote)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}"


_HELPER: Final = r"""!f() { printf 'username=%s\npassword=%s\n' "$RECONCILER_GIT_USER" "$RECONCILER_GIT_TOKEN"; }; f"""
"""How git asks us for name and token: neither is in an argument, nor in a file. (Many a shell's `echo` reads backslashes.)"""


def _environment(environ: Mapping[str, str], remote: str | None, login: Login | None) -> dict[str, str]:
    """No configuration but ours, and nothing that asks. What is secret is in no argument."""
    settings = dict(_SETTINGS)
    if remote is not None:
        settings["remote.origin.url"] = remote
    kept = {name: environ[name] for name in _KEPT if name in environ}
    if login is not None:
        # For that host alone: a redirect, or a repository's own settings, must not send it elsewhere.
        settings[f"credential.{_host(remote or '')}.helper"] = _HELPER
        kept |= {"RECONCILER_GIT_USER": login.user, "RECONCILER_GIT_TOKEN": login.token}
    numbered: dict[str, str] = {"GIT_CONFIG_COUNT": str(len(settings))}
    for number, (key, value) in enumerate(settings.items()):
        numbered |= {f"GIT_CONFIG_KEY_{number}": key, f"GIT_CONFIG_VALUE_{number}": value}
    return (
        kept
        | numbered
        | {
            "GIT_CONFIG_NOSYSTEM": "1",
            "GIT_CONFIG_GLOBAL": os.devnull,
            "GIT_TERMINAL_PROMPT": "0",
            "GIT_SSH_COMMAND": "ssh -oBatchMode=yes -oConnectTimeout=10 -oServerAliveInterval=15",
            "GIT_LITERAL_PATHSPECS": "1",
            "LC_ALL": "C.UTF-8",
            "LANGUAGE": "C",
        }
    )
