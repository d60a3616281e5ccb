"""On a cluster's node: the shim's own parent, which ends what a shim leaves that is killed."""

import os
import time

from .bare import prctl, signal
from .child import PR_SET_PDEATHSIG
from .files import attempt
from .kernel import descendants, send
from .life import LOST_THE_FENCE, PR_SET_CHILD_SUBREAPER, main
from .stop import KILL_EVERY


def reap_all() -> None:
    """Collect every ended child. Raises ChildProcessError where none is left."""
    while os.waitpid(-1, os.WNOHANG)[0]:
        pass


def keep(folder: str) -> int:
    """See one run through, under a parent that reads no file. Returns the exit status.

    The runner can't look for what is left on a node, and not every cluster does.
    """
    keeper = os.getpid()
    prctl(PR_SET_CHILD_SUBREAPER, 1)
    shim = os.fork()
    if shim == 0:
        prctl(PR_SET_PDEATHSIG, int(signal.SIGKILL))
        return main(folder) if os.getppid() == keeper else LOST_THE_FENCE
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda number, _: attempt(os.kill, shim, number))
    status = -1
    while status < 0:
        pid, ended = os.waitpid(-1, 0)
        status = ended if pid == shim else status
    while left := descendants():
        for pid, start in left:
            send(pid, start, signal.SIGKILL)
        time.sleep(KILL_EVERY)
        attempt(reap_all)
    code = os.waitstatus_to_exitcode(status)
    return 128 - code if code < 0 else code
