"""Runs one program that ends when we do: `python -I -S guard.py LIFELINE [UID:GID] -- argv…`. On the standard library alone.

LIFELINE is the read end of a pipe whose other end only our starter holds: it closes however that one dies, `kill -9` included.
The program gets our standard streams, and we let go of them: its bytes go straight to whoever reads them. We exit as it did.

With UID:GID (given by root) the program is a server that nobody needs: it runs as that account, with no network but its socket,
and is ended at once. Without the numbers, `:`, it stays ours.
"""

import ctypes
import os
import resource
import signal
import sys
import threading

GRACE_SECONDS = 2.0
"""On SIGTERM, pg_dump asks the server to cancel; a server that cannot be reached must not keep it longer than this."""
PR_SET_PDEATHSIG = 1
CLONE_NEWNET = 0x40000000


def start(argv: list[str], lifeline: int, account: str) -> int:
    """Fork and exec; the program dies with this very thread, so that a `kill -9` of ours ends it too (where the system can)."""
    guardian = os.getpid()
    os.set_inheritable(lifeline, False)  # noqa: FBT003  it takes no keyword
    child = os.fork()
    if child:
        return child
    try:
        if account.strip(":"):
            drop_to(account)
        die_with_parent(guardian)  # after that: whoever changes its account loses the kernel's promise
        signal.signal(signal.SIGPIPE, signal.SIG_DFL)
        os.execv(argv[0], argv)  # noqa: S606  no shell is what we want
    except OSError as error:
        os.write(2, f"cannot run {argv[0]}: {error.strerror}\n".encode())
    finally:
        os._exit(127)


def drop_to(account: str) -> None:
    """Become that account, cut off from the network where the system can: what runs in a scratch server reaches nothing."""
    uid, _, gid = account.partition(":")
    if sys.platform == "linux":
        ctypes.CDLL(None).unshare(CLONE_NEWNET)
    os.setgroups([])
    os.setgid(int(gid))
    os.setuid(int(uid))


def die_with_parent(parent: int) -> None:
    """Ask Linux for a SIGKILL at the parent's death; other systems have no such thing and rely on the lifeline."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:  # it died between fork and prctl, and no signal will come
            os._exit(127)


def watch(lifeline: int, child: int, alone: threading.Event, ends: signal.Signals) -> None:
    """End the child once the other end of the lifeline is closed: politely, then with our whole process group."""
    while os.read(lifeline, 1):
        pass
    alone.set()
    os.kill(child, ends)
    threading.Event().wait(GRACE_SECONDS)
    os.killpg(0, signal.SIGKILL)


def exit_like(code: int, status: int) -> None:
    """Exit with the child's code, or die of its signal."""
    if code != os.CLD_EXITED:
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        if status != signal.SIGKILL:
            signal.signal(status, signal.SIG_DFL)
        os.kill(os.getpid(), status)
    os._exit(status)


def main() -> None:
    """Start, watch, wait, and exit as the program did."""
    lifeline, account = int(sys.argv[1]), sys.argv[2]
    argv = sys.argv[sys.argv.index("--") + 1 :]
    # PostgreSQL's server takes SIGTERM for "when all have left", and SIGQUIT for "now, without tidying up".
    ends = signal.SIGTERM if account == "--" else signal.SIGQUIT
    child = start(argv, lifeline, "" if account == "--" else account)
    os.close(0)
    os.close(1)
    alone = threading.Event()
    threading.Thread(target=watch, args=(lifeline, child, alone, ends), daemon=True).start()
    # Not reaped: while the zombie is there its number is not given away, and the watcher cannot hit a stranger.
    ended = os.waitid(os.P_PID, child, os.WEXITED | os.WNOWAIT)
    if alone.is_set():
        os.killpg(0, signal.SIGKILL)  # the program is gone; what it may have started need not be asked
    if ended is not None:
        exit_like(ended.si_code, ended.si_status)


if __name__ == "__main__":
    main()
