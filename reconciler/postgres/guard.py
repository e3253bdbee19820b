"""Runs one program that ends when we do: `python -I -S guard.py LIFELINE -- argv…`. A script, on the standard library alone.

LIFELINE is the read end of a pipe whose other end only our starter holds: it closes however that one dies, `kill -9` included.
The program gets our standard streams, and we let go of them: its bytes go straight to whoever reads them. We exit as it did.
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


def start(argv: list[str], lifeline: int) -> int:
    """Fork and exec; the program dies with this very thread, so that a `kill -9` of ours ends it too (where the system can)."""
    guardian = os.getpid()
    os.set_inheritable(lifeline, False)  # noqa: FBT003  it takes no keyword
    child = os.fork()
    if child:
        return child
    try:
        die_with_parent(guardian)
        signal.signal(signal.SIGPIPE, signal.SIG_DFL)
        os.execv(argv[0], argv)  # noqa: S606  no shell is what we want
    except OSError as error:
        os.write(2, f"cannot run {argv[0]}: {error.strerror}\n".encode())
    finally:
        os._exit(127)


def die_with_parent(parent: int) -> None:
    """Ask Linux for a SIGKILL at the parent's death; other systems have no such thing and rely on the lifeline."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:  # it died between fork and prctl, and no signal will come
            os._exit(127)


def watch(lifeline: int, child: int, alone: threading.Event) -> None:
    """End the child once the other end of the lifeline is closed: politely, then with our whole process group."""
    while os.read(lifeline, 1):
        pass
    alone.set()
    os.kill(child, signal.SIGTERM)
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
    lifeline, argv = int(sys.argv[1]), sys.argv[3:]
    child = start(argv, lifeline)
    os.close(0)
    os.close(1)
    alone = threading.Event()
    threading.Thread(target=watch, args=(lifeline, child, alone), daemon=True).start()
    # Not reaped: while the zombie is there its number is not given away, and the watcher cannot hit a stranger.
    ended = os.waitid(os.P_PID, child, os.WEXITED | os.WNOWAIT)
    if alone.is_set():
        os.killpg(0, signal.SIGKILL)  # the program is gone; what it may have started need not be asked
    if ended is not None:
        exit_like(ended.si_code, ended.si_status)


if __name__ == "__main__":
    main()
