"""A pass of the runner in a process of its own: what `tsched serve` starts where no daemon is there to be woken.

The runs that it starts belong to nobody once it has ended, as those of `tsched run --once` by cron.
"""

import subprocess
import sys
from collections.abc import Sequence

from tsched.model.errors import TransientError


def one_pass(flags: Sequence[str]) -> int:
    """Run one pass to its end, with these global flags. Returns the exit code; complaints go to standard error.

    Raises TransientError where it can't be started.
    """
    command = [sys.executable, "-m", "tsched", *flags, "run", "--once"]
    try:
        # In a session of its own: Ctrl-C ends the server, not the pass.
        done = subprocess.run(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, start_new_session=True, check=False
        )
    except OSError as error:
        raise TransientError(f"a pass can't be started: {error.strerror}: the machine is full?") from error
    return done.returncode
