"""A process that has imported all of the shim, and forks one for each run whose folder its runner names.

A shim so started costs a fork instead of a Python, and shares its memory with the others. The runner writes a run's
folder and a zero byte to standard input, and gets a line `PID START` back for each, in order: the shim's pid and its
start time (clock ticks since boot), 0 where it has ended by then; `0 0` where none could be forked. Such a line also
comes first of all: it is ready.

It ends with its runner, whose end closes that pipe, and does first what it was asked for until then. No shim needs
it: it may be killed at any time. Whether a run starts the fence decides, as ever.
"""

import gc
import os

from .bare import signal
from .files import attempt
from .kernel import stat_of
from .life import main

TYPE_CHECKING = False  # typing itself would slow the start
if TYPE_CHECKING:
    from collections.abc import Sequence

SPARE = "TSCHED_NO_RUN"  # of the server's environment: room for TSCHED_RUN_ID, which is as long, and for any id


def serve(room: str) -> int:
    """Fork until the runner ends. In each fork: see that run through. Returns the exit status.

    `room`: the last argument, as long as any folder of a run.
    """
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for them
    os.closerange(3, 4096)  # what our runner had from whoever started it
    places = shown(room)
    gc.freeze()  # what is there by now stays shared: no collection writes into it
    os.write(1, b"0 0\n")
    asked = b""
    while data := os.read(0, 1 << 16):
        *folders, asked = (asked + data).split(b"\0")
        for folder in map(os.fsdecode, folders):
            pid = forked(folder, places)
            if pid == 0:
                return main(folder)
            stat = stat_of(pid) if pid > 0 else None
            pid = max(pid, 0)
            attempt(os.write, 1, f"{pid} {stat[1] if stat else 0}\n".encode())
    return 0


def forked(folder: str, places: "Sequence[tuple[int, bytes]]") -> int:
    """Fork: the pid, 0 in the fork, -1 where there can be none, or none that could say what goes wrong."""
    try:
        said = os.open(os.path.join(folder, "shim.log"), os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    except OSError:
        return -1
    try:
        pid = os.fork()
    except OSError:
        pid = -1
    if pid == 0:
        become(folder, said, places)
    os.close(said)
    return pid


def become(folder: str, said: int, places: "Sequence[tuple[int, bytes]]") -> None:
    """In the fork: what a shim that was started by itself has of its start. The rest `main` sees to for both."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    null = os.open(os.devnull, os.O_RDONLY)
    for source, target in ((null, 0), (said, 1), (said, 2)):
        os.dup2(source, target)
    run_id = os.path.basename(folder)
    os.environ.pop(SPARE, None)
    os.environ["TSCHED_RUN_ID"] = run_id
    attempt(show, folder, f"TSCHED_RUN_ID={run_id}", places)


def shown(room: str) -> "Sequence[tuple[int, bytes]]":
    """Where the memory is that /proc shows of our arguments and of our environment, and what is there now.

    Empty where this kernel does not tell. Then a fork looks like its server, to `ps` and to the runner's census; that
    decides nothing: a shim lives by its lock, and all that it starts is executed with the run's own environment.
    """
    try:
        with open("/proc/self/stat", encoding="utf-8", errors="replace") as file:
            ends = [int(field) for field in file.read().rpartition(")")[2].split()[45:49]]
        memory = os.open("/proc/self/mem", os.O_RDONLY)
        try:
            arguments, environment = (
                (begin, os.pread(memory, end - begin, begin)) for begin, end in (ends[:2], ends[2:])
            )
        finally:
            os.close(memory)
    except (OSError, ValueError):
        return ()
    places = []
    for (begin, text), known in (
        (arguments, f"serve\0{room}\0"),
        (environment, f"{SPARE}={os.environ.get(SPARE, '')}\0"),
    ):
        at = text.rfind(b"\0" + known.encode()) + 1
        if not at and not text.startswith(known.encode()):
            return ()
        places.append((begin + at, known.encode()))
    return places


def show(folder: str, variable: str, places: "Sequence[tuple[int, bytes]]") -> None:
    """Write the run into the memory that /proc shows, over what its server had there. Raises OSError."""
    if not places:
        return
    memory = os.open("/proc/self/mem", os.O_WRONLY)
    try:
        for (begin, known), said in zip(places, (folder, variable), strict=True):
            text = os.fsencode(said)
            if len(text) < len(known):
                os.pwrite(memory, text.ljust(len(known), b"\0"), begin)
    finally:
        os.close(memory)
