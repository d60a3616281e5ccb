"""What a forked child does until it is the program that it was forked for."""

import errno
import os
import resource

from .bare import prctl, signal
from .group import Group

TYPE_CHECKING = False  # typing itself would slow the start
if TYPE_CHECKING:
    from typing import Any

PR_SET_PDEATHSIG, PR_SET_NO_NEW_PRIVS = 1, 38


def become(
    argv: "list[str]", env: "dict[str, str]", cwd: str, *, out: int, group: Group, caps: "list[tuple[int, int]]",
    user: "dict[str, Any] | None", gate: int, reporter: int, opener: int, shim: int,
) -> None:  # fmt: skip
    """In the forked child: turn into the program. Never returns; what goes wrong is told through `reporter`."""
    step = "it could not be prepared"
    try:
        os.close(opener)
        os.setsid()
        if group.path and not group.tell("cgroup.procs", "0"):
            raise OSError(errno.EPERM, f"its cgroup {group.path} lets nobody in")
        confine(caps, user)
        prctl(PR_SET_PDEATHSIG, int(signal.SIGKILL))  # a change of user takes it away: after that
        if os.getppid() != shim or os.read(gate, 1) != b".":
            os._exit(127)  # the shim died first: nobody would stop us
        null = os.open(os.devnull, os.O_RDONLY)
        for source, target in ((null, 0), (out, 1), (out, 2)):
            os.dup2(source, target)
        step = f"its folder {cwd} could not be entered"
        os.chdir(cwd)
        for number in range(1, signal.NSIG):
            if number not in (signal.SIGKILL, signal.SIGSTOP) and not 32 <= number <= 33:
                signal.signal(number, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_SETMASK, ())
        step = f"`{argv[0]}` could not be executed"
        os.execve(argv[0] if "/" in argv[0] else find(argv[0], env), argv, env)
    except OSError as error:
        os.write(reporter, f"{step}: {error.strerror}".encode())
    except BaseException as error:  # whatever it is, a forked child may not run on as a second shim
        os.write(reporter, f"{step}: {error}".encode())
    finally:
        os._exit(127)


def confine(caps: "list[tuple[int, int]]", user: "dict[str, Any] | None") -> None:
    """In the forked child: its own limits, no core dump, and for good the user that agents run as. Raises OSError."""
    for kind, most in (*caps, (resource.RLIMIT_CORE, 0)):
        hard = resource.getrlimit(kind)[1]
        allowed = most if hard == resource.RLIM_INFINITY else min(most, hard)
        resource.setrlimit(kind, (allowed, allowed))
    if user:
        os.setgroups(user["groups"])
        os.setresgid(user["gid"], user["gid"], user["gid"])
        os.setresuid(user["uid"], user["uid"], user["uid"])
        prctl(PR_SET_NO_NEW_PRIVS, 1)  # neither sudo nor another set-user-id program leads back


def find(name: str, env: "dict[str, str]") -> str:
    """A program by the PATH that it will have itself."""
    for folder in env.get("PATH", os.defpath).split(os.pathsep):
        path = os.path.join(folder, name)
        if os.access(path, os.X_OK) and os.path.isfile(path):
            return path
    raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT))
