"""Runs one program that ends when we do: `python -I -S guard.py LIFELINE[,OPENER] [UID:GID] -- argv…`. Standard library alone.

LIFELINE is the read end of a pipe whose other end only our starter holds: it closes however that one dies, `kill -9` included.
The program gets our standard streams, and we let go of them: its bytes go straight to whoever reads them. We exit as it did.

OPENER is a socket on which our starter asks for FIFOs that the program reads to be opened: see `open_for`.

With UID:GID (given by root) the program is a server that nobody needs: it runs as that account, with no network but its socket,
and is ended at once. Without the numbers, `:`, it stays ours.
"""

import ctypes
import errno
import os
import resource
import signal
import sys
import threading

GRACE_SECONDS = 2.0
"""On SIGTERM, pg_dump asks the server to cancel; a server that cannot be reached must not keep it longer than this."""
PR_SET_PDEATHSIG = 1
CLONE_NEWNET = 0x40000000


def start(argv: list[str], ours: list[int], account: str) -> int:
    """Fork and exec; the program dies with this very thread, so that a `kill -9` of ours ends it too (where the system can)."""
    guardian = os.getpid()
    for descriptor in ours:
        os.set_inheritable(descriptor, False)  # noqa: FBT003  it takes no keyword
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


def stand_by(ours: list[int]) -> tuple[int, int]:
    """Fork a second who ends all of our process group, should we be killed: what the program started lives on otherwise.

    Its number, and a pipe: a byte through it sends the second away. It is no member of the group, since that may be stopped;
    but of our session, so that the group's number is given to nobody else while it watches.
    """
    group = os.getpgrp()
    ear, mouth = os.pipe()
    second = os.fork()
    if second:
        os.close(ear)
        return second, mouth
    try:
        os.setpgid(0, 0)
        for descriptor in (0, 1, mouth, *ours):
            os.close(descriptor)
        if not os.read(ear, 1):
            os.killpg(group, signal.SIGKILL)
    finally:
        os._exit(0)


def send_away(second: int, mouth: int) -> None:
    """And wait until it is gone: nobody else would, where we are not survived by an init."""
    try:  # noqa: SIM105  no import for that
        os.write(mouth, b".")
    except BrokenPipeError:
        pass  # somebody killed it
    os.waitpid(second, 0)


def watch(lifeline: int, child: int, alone: threading.Event, ends: signal.Signals) -> None:
    """End the child once the other end of the lifeline is closed: politely, then with our whole process group."""
    while os.read(lifeline, 1):
        pass
    alone.set()
    os.kill(child, ends)
    threading.Event().wait(GRACE_SECONDS)
    os.killpg(0, signal.SIGKILL)


def open_for(opener: int) -> None:
    """Open for writing what our starter names and somebody reads; keep the last one open until the next word of it.

    A FIFO whose only end is closed looks like a file that is whole. Our starter holds that end in another way when it speaks
    again; if it is gone instead, the end stays open until the program has ended, which we see to.
    """
    import socket

    line, opened = socket.socket(fileno=opener), -1
    try:
        _, (folder,), _, _ = socket.recv_fds(line, 1, 1)
        for names in line.makefile("rb"):
            if opened >= 0:
                os.close(opened)
            number, opened = first_read(names.split(), folder)
            if names.strip():
                socket.send_fds(line, [b"%8d" % number], [opened] if opened >= 0 else [])
    except OSError:
        pass  # our starter is gone


def first_read(names: list[bytes], folder: int) -> tuple[int, int]:
    """The place of the first that somebody reads, and a descriptor of it; else what went wrong, 0 if nothing did, and -1."""
    for number, name in enumerate(names):
        try:
            return number, os.open(name, os.O_WRONLY | os.O_NONBLOCK, dir_fd=folder)
        except OSError as error:
            if error.errno != errno.ENXIO:
                return error.errno or errno.EIO, -1
    return 0, -1


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
    (lifeline, *opener), account = map(int, sys.argv[1].split(",")), sys.argv[2]
    argv = sys.argv[sys.argv.index("--") + 1 :]
    # PostgreSQL's server takes SIGTERM for "when all have left", and SIGQUIT for "now, without tidying up".
    ends = signal.SIGTERM if account == "--" else signal.SIGQUIT
    second = stand_by([lifeline, *opener])
    child = start(argv, [lifeline, *opener], "" if account == "--" else account)
    os.close(0)
    os.close(1)
    alone = threading.Event()
    threading.Thread(target=watch, args=(lifeline, child, alone, ends), daemon=True).start()
    if opener:
        threading.Thread(target=open_for, args=opener, daemon=True).start()
    # Not reaped: while the zombie is there its number is not given away, and the watcher cannot hit a stranger.
    ended = os.waitid(os.P_PID, child, os.WEXITED | os.WNOWAIT)
    send_away(*second)
    if alone.is_set():
        os.killpg(0, signal.SIGKILL)  # the program is gone; what it may have started need not be asked
    if ended is not None:
        exit_like(ended.si_code, ended.si_status)


if __name__ == "__main__":
    main()
