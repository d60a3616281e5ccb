"""The parent of one local run: fences its start, guards its lease, stops it in time, records its end.

Run as `python -I -S shim.py RUN_FOLDER`, in a session of its own. The standard library alone, and all of it imported
here at the start, so that an upgrade of tsched under a living run changes nothing. DESIGN section 4 is its law.
"""

import ctypes
import errno
import fcntl
import json
import os
import resource
import signal
import sys
import time

TYPE_CHECKING = False  # typing itself would slow the start
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Any

LOST_THE_FENCE = 3  # exit status of a shim that came too late: another shim, or recovery, was first
TICK = 1.0  # seconds between two looks at stop requests
STALE_LOCK = 60.0  # seconds after which a lock file of git is taken for one that a kill left behind
SILENT = 4  # heartbeats that a shim on another machine may miss before it ends its run: DESIGN section 4
TOGETHER = 0.2  # seconds: Slurm's TERM comes to all of a job at once, and an agent may end of it before we hear it
SWEEP_GRACE = 2.0  # what an agent leaves behind when it ends by itself is given this long after TERM
KILL_EVERY = 0.05  # seconds between two rounds of KILL
LOOK_EVERY = 60.0  # seconds between two looks at an agent's progress, or an eighth of `stall`
BUSY = 0.1  # of one processor: an agent that computes so much does something
MOST_FILES = 20_000  # of its folder that one look goes through
CHUNK = 1 << 16  # bytes: of output read at once
AT_ONCE = 1 << 22  # bytes: of output taken in before anything else is looked at
PLENTY = 1 << 15  # bytes: where so much has come, more is expected at once
NAP = 0.02  # seconds from one piece of output to the next look for more: small pieces wake nobody one by one
WORDS = iter(range(1000))  # one for each complaint of its own: a disk that stays full is not told for ever

PR_SET_PDEATHSIG, PR_SET_CHILD_SUBREAPER, PR_SET_NO_NEW_PRIVS = 1, 36, 38
CALLS = (signal.SIGCHLD, signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
HEARD = (*CALLS, signal.SIGIO)  # the last: there is output
REQUESTS = ("drain", "stopped", "cancelled", "timeout")  # reasons that a stop request may carry

FAILPOINT = os.environ.get("TSCHED_FAILPOINT", "")  # as tsched.failpoint, for tests alone

LIBC = ctypes.CDLL(None, use_errno=True)


def since_boot() -> float:
    """Seconds since boot, sleep included: no clock that somebody sets moves it."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


def failpoint(step: str) -> None:
    """Where kill -9 may come; nothing where no test asks for it."""
    if not FAILPOINT:
        return
    file = os.environ.get("TSCHED_FAILPOINT_FILE", os.devnull)
    if FAILPOINT == "*":
        with open(file, "a", encoding="utf-8") as trace:
            trace.write(f"shim: {step}\n")
    elif f"shim: {step}" == FAILPOINT:
        try:
            os.close(os.open(file, os.O_CREAT | os.O_EXCL))
        except FileExistsError:
            return
        os.kill(os.getpid(), signal.SIGKILL)


def stamp(epoch: float) -> str:
    """RFC 3339, UTC, milliseconds; as tsched.model.units.iso."""
    millis = round(epoch * 1000)
    return time.strftime("%Y-%m-%dT%H:%M:%S.", time.gmtime(millis // 1000)) + f"{millis % 1000:03d}Z"


def attempt(action: "Callable[..., None]", *arguments: "str | int") -> None:
    """Do it where it can be done. (contextlib.suppress would cost a fifth of the start.)"""
    try:
        action(*arguments)
    except OSError:
        return


def read_text(path: str) -> str:
    with open(path, encoding="utf-8", errors="replace") as file:
        return file.read()


def complain(text: str) -> None:
    """Into the shim's own log, within bounds, where the disk takes it: mostly that is what it complains of."""
    if next(WORDS, None) is not None:
        attempt(lambda words: print(words, file=sys.stderr, flush=True), text)


def read_boot_id() -> str:
    return read_text("/proc/sys/kernel/random/boot_id").strip()


def stat_of(pid: int) -> "tuple[int, int] | None":
    """Parent and start time (clock ticks since boot) of a process, None where it is gone."""
    try:
        fields = read_text(f"/proc/{pid}/stat").rpartition(")")[2].split()
    except OSError:
        return None
    return int(fields[1]), int(fields[19])


def descendants() -> "list[tuple[int, int]]":
    """Every descendant as (pid, start time), parents first. A subreaper has all orphans among them.

    Zombies too: one whose first thread alone has ended looks the same, and a signal does the others no harm.
    """
    children: dict[int, list[tuple[int, int]]] = {}
    for name in os.listdir("/proc"):
        if name.isdecimal() and (stat := stat_of(int(name))) is not None:
            children.setdefault(stat[0], []).append((int(name), stat[1]))
    found = list(children.get(os.getpid(), ()))
    for pid, _ in found:  # grows while it is walked
        found += children.get(pid, ())
    return found


def send(pid: int, start: int, number: int) -> None:
    """Signal that very process, never one that has got its pid since."""
    try:
        handle = os.pidfd_open(pid)
    except OSError as error:
        if error.errno not in (errno.ENOSYS, errno.EPERM):
            return
        handle = -1  # no pidfd here: the check below is as near as it gets
    try:
        stat = stat_of(pid)
        if stat is not None and stat[1] == start:
            if handle < 0:
                os.kill(pid, number)
            else:
                signal.pidfd_send_signal(handle, number)
    except OSError:
        pass  # it ended meanwhile
    finally:
        if handle >= 0:
            os.close(handle)


def write_atomically(path: str, text: str, *, durable: bool) -> None:
    """Temp file, fsync, rename, directory fsync: a reader sees the old text or the new, a power cut too."""
    folder, name = os.path.split(path)
    temp = os.path.join(folder, "." + name.removesuffix(".json") + ".shim.tmp")
    handle = os.open(temp, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    try:
        view = memoryview(text.encode())
        while view:
            view = view[os.write(handle, view) :]
        if durable:
            os.fsync(handle)
    except OSError:
        os.unlink(temp)
        raise
    finally:
        os.close(handle)
    failpoint(f"{name.partition('_')[0]} written beside")
    os.rename(temp, path)
    failpoint(f"{name.partition('_')[0]} renamed")
    if durable:
        handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


class Lease:
    """The run's own lease and the link beside it. It is only ever written where it stands and is this run's."""

    __slots__ = ("alarm", "fields", "link", "path", "reached", "run_id", "written")

    def __init__(self, spec: "dict[str, Any]") -> None:
        self.path: str = spec["lease"]
        self.link: str = spec["link"]
        self.run_id: str = spec["run_id"]
        self.fields: dict[str, object] = spec["lease_fields"]
        self.written = False
        self.reached = since_boot()  # when it was last seen
        elsewhere = spec.get("elsewhere", False)
        self.alarm: float = SILENT * spec["heartbeat"] + spec["stop_grace"] + 10 if elsewhere else 0.0

    def standing(self, *, touch: bool = False) -> str:
        """`ours`, `torn` (there, but unreadable), `gone`, or `foreign` (another run's).

        `touch` sets the time of that very file where it is ours, never of one that has taken its place since.
        """
        try:
            with open(self.path, encoding="utf-8", errors="replace") as file:
                owner = json.load(file).get("run_id")
                if touch and owner == self.run_id:
                    os.utime(file.fileno())
        except FileNotFoundError:
            return "gone"
        except (OSError, ValueError, AttributeError):
            return "torn"
        return "ours" if owner == self.run_id else "foreign"

    def write(self) -> None:
        """As `running`. A full disk is no reason to end a run: the next heartbeat tries again."""
        self.fields["heartbeat"] = stamp(time.time())
        try:
            write_atomically(self.path, json.dumps(self.fields, indent=2, ensure_ascii=False) + "\n", durable=True)
            self.written = True
            self._place_link()
        except OSError as error:
            complain(f"the lease could not be written: {error}")

    def _place_link(self) -> None:
        target = os.path.basename(self.path)
        try:
            os.symlink(target, self.link)
        except FileExistsError:
            if not os.path.islink(self.link) or os.readlink(self.link) != target:
                os.unlink(self.link)
                os.symlink(target, self.link)

    def beat(self, *, running: bool) -> bool:
        """Set the lease's time. False where it is gone or another's: then this run may never touch it again."""
        standing = self.standing(touch=True)
        if standing in ("gone", "foreign"):
            return False
        if standing == "ours":
            self.reached = since_boot()
            if self.alarm:  # a file system that hangs would hang us too: then the kernel ends us, and so the agent
                signal.setitimer(signal.ITIMER_REAL, self.alarm)
        if running and (standing == "torn" or not self.written):
            self.write()
        return True

    def release(self) -> None:
        """The link first, then the lease."""
        standing = self.standing()
        if standing == "foreign":
            return
        for what, path in (("link", self.link), ("lease", self.path)):
            failpoint(f"{what} to be removed")
            attempt(os.unlink, path)
        failpoint("lease removed")


class Log:
    """The run's log, written here alone: what the children say comes through a pipe, so no flood passes `most` bytes.

    Of a flood an eighth of that is kept of its beginning and a quarter or more of its end; a line between says so.
    """

    __slots__ = (
        "beginning",
        "file",
        "heard",
        "left_out",
        "lost",
        "most",
        "path",
        "sink",
        "size",
        "source",
        "speaker",
    )

    def __init__(self, spec: "dict[str, Any]") -> None:
        self.path: str = spec["log"]
        self.most: int = spec.get("log_max", 1 << 26)  # a run of an older version has none
        self.speaker: int = (spec.get("user") or {}).get("uid", -1)  # may open /dev/stderr anew
        self.file = self.source = self.sink = -1
        self.size = self.heard = 0  # bytes: of the file; of all that was ever said
        self.beginning = self.left_out = self.lost = 0

    def open(self) -> None:
        """Once, before the first child. Raises OSError."""
        if self.file >= 0:
            return
        self.file = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        self.size = os.lseek(self.file, 0, os.SEEK_END)
        self.source, self.sink = os.pipe()
        if self.speaker >= 0:
            os.fchown(self.sink, self.speaker, -1)
        fcntl.fcntl(self.source, fcntl.F_SETOWN, os.getpid())
        fcntl.fcntl(self.source, fcntl.F_SETFL, os.O_NONBLOCK | os.O_ASYNC)

    def drain(self) -> int:
        """Take in what has come. Returns how much that was, in bytes."""
        taken = 0
        while self.source >= 0 and taken < AT_ONCE:
            try:
                data = os.read(self.source, CHUNK)
            except BlockingIOError:
                break
            taken += len(data)
            self.write(data)
        self.heard += taken
        return taken

    def empty(self) -> None:
        """Take in all that is there by now, and no more: a stranger who got hold of the pipe may go on for ever."""
        there = fcntl.fcntl(self.source, fcntl.F_GETPIPE_SZ)
        while there > 0 and (taken := self.drain()):
            there -= taken

    def write(self, data: bytes) -> None:
        """At the end. What a full disk does not take is left out: it is no reason to end a run."""
        if self.lost:
            words = f"\n[tsched: {self.lost} bytes of output could not be written: the disk was full]\n"
            data = words.encode() + data
        if self.size + len(data) > self.most:
            self.make_room()
        view = memoryview(data)
        try:
            while view:
                written = os.pwrite(self.file, view, self.size)
                self.size += written
                view = view[written:]
            self.lost = 0
        except OSError:
            self.lost += len(view)

    def make_room(self) -> None:
        """Leave out the middle. Both sides begin and end with whole lines, where lines are not endless."""
        head = self.most // 8
        if not self.beginning:
            before = os.pread(self.file, CHUNK, head - CHUNK)
            self.beginning = head - CHUNK + before.rfind(b"\n") + 1 if b"\n" in before else head
        start = self.size - self.most // 4
        start += os.pread(self.file, CHUNK, start).find(b"\n") + 1
        self.left_out += start - self.beginning
        words = f"[tsched: {self.left_out} bytes of output are left out here: a run's log has {self.most} at most]\n"
        try:
            end = self.beginning + os.pwrite(self.file, words.encode(), self.beginning)
            while start < self.size:
                data = os.pread(self.file, CHUNK, start)
                os.pwrite(self.file, data, end)
                start, end = start + len(data), end + len(data)
            os.ftruncate(self.file, end)
            self.size = end
        except OSError as error:  # the file can't grow by it, so this is no full disk
            complain(f"the log could not be shortened: {error}")

    def last(self, since: int) -> bytes:
        """What was said last, after so many bytes had been `heard`; 4 KiB at most."""
        most = min(4096, self.heard - since, self.size)
        return os.pread(self.file, most, self.size - most)


class Group:
    """The run's cgroup: what is born in it is found there, whatever it does. `path` is "" where there is none."""

    __slots__ = ("held", "path")

    def __init__(self, spec: "dict[str, Any]") -> None:
        self.path: str = spec.get("cgroup", "")
        self.held: list[str] = []  # limits that the kernel holds the group to

    def make(self, limits: "Sequence[dict[str, Any]]") -> None:
        """Make it, and set each limit that its controllers know: one whose first file takes."""
        if not self.path:
            return
        try:
            attempt(os.mkdir, self.path)
            if read_text(self.path + "/cgroup.type").strip() != "domain":
                raise OSError(errno.EOPNOTSUPP, "it is no domain")
        except OSError as error:
            complain(f"no cgroup {self.path}: {error}")
            self.path = ""
            return
        for limit in limits:
            done = [self.tell(name, text) for name, text in limit["files"].items()]
            if done and done[0]:
                self.held.append(limit["name"])

    def tell(self, name: str, text: str) -> bool:
        """Write to one of its files. Whether the kernel took it."""
        try:
            handle = os.open(f"{self.path}/{name}", os.O_WRONLY)
        except OSError:
            return False
        try:
            os.write(handle, text.encode())
        except OSError:
            return False
        finally:
            os.close(handle)
        return True

    def kill(self) -> None:
        """All of it at once, faster than it can fork."""
        if self.path:
            self.tell("cgroup.kill", "1")

    def starved(self) -> str:
        """That the kernel ended some of it for want of memory, and whose; "" where it did not."""
        try:
            words = read_text(self.path + "/memory.events").split() if self.path else []
        except OSError:
            return ""
        events = dict(zip(words[::2], words[1::2], strict=False))
        ended = events.get("oom_kill", "0")
        cause = "its memory limit was reached" if events.get("oom", "0") != "0" else "the machine had no memory left"
        return "" if ended == "0" else f"{cause} (processes that the kernel ended: {ended})"

    def remove(self) -> None:
        """With the groups that the run made in it."""
        if self.path:
            self.kill()
            for place, _, _ in os.walk(self.path, topdown=False):
                attempt(os.rmdir, place)


class Progress:
    """Whether the agent does anything: more output, other processes, computing, a change in its folder."""

    __slots__ = ("cpu", "every", "folder", "heard", "known", "limit", "log", "looked", "newest", "since")

    def __init__(self, spec: "dict[str, Any]", log: Log) -> None:
        self.limit: float = spec["stall"]  # seconds without any; 0: for ever
        self.every = min(LOOK_EVERY, self.limit / 8)
        self.log = log
        self.folder: str = spec["cwd"]
        self.since = self.looked = since_boot()
        self.heard = self.newest = 0
        self.known: list[tuple[int, int]] = []
        self.cpu = 0.0

    def stalled(self) -> bool:
        """Look, where it is time. Whether nothing has moved for `stall`."""
        now = since_boot()
        if not self.limit or now < self.looked + self.every:
            return False
        elapsed, self.looked = now - self.looked, now
        if self.moved(elapsed):
            self.since = now
        return now - self.since >= self.limit

    def moved(self, elapsed: float) -> bool:
        """The cheapest sign first. A sign that was not looked at is compared with its older state the next time."""
        before, self.heard = self.heard, self.log.heard
        if self.heard != before:
            return True
        others, self.known = self.known, descendants()
        used, self.cpu = self.cpu, sum(computed(pid) for pid, _ in self.known)
        if self.known != others or self.cpu - used >= BUSY * elapsed:
            return True
        touched, self.newest = self.newest, newest(self.folder)
        return self.newest != touched


def computed(pid: int) -> float:
    """Seconds of processor time that a process and its ended children have used."""
    try:
        fields = read_text(f"/proc/{pid}/stat").rpartition(")")[2].split()
    except OSError:
        return 0.0
    return sum(map(int, fields[11:15])) / float(os.sysconf("SC_CLK_TCK"))


def newest(folder: str) -> int:
    """The newest change below a folder, in nanoseconds since the epoch; links are not followed."""
    latest, seen, folders = 0, 0, [folder]
    while folders and seen < MOST_FILES:
        try:
            with os.scandir(folders.pop()) as entries:
                for entry in entries:
                    seen += 1
                    latest = max(latest, entry.stat(follow_symlinks=False).st_mtime_ns)
                    if entry.is_dir(follow_symlinks=False):
                        folders.append(entry.path)
        except OSError:
            continue  # it went away meanwhile
    return latest


class Shim:
    """One run from fence to end. `reason` is why it is being stopped, "" while it isn't."""

    __slots__ = (
        *("folder", "give_up", "group", "kill_at", "late", "lease", "log", "main", "next_beat"),
        *("over", "progress", "reason", "running", "spec", "started_at"),
    )

    def __init__(self, folder: str, spec: "dict[str, Any]") -> None:
        self.folder = folder
        self.spec = spec
        self.lease = Lease(spec)
        self.log = Log(spec)
        self.group = Group(spec)
        self.reason = ""
        self.main = 0  # the child whose end counts: a setup command, a hook, the agent
        self.late = False  # a hook took longer than it may
        self.running = False  # the agent has been started
        self.progress: Progress | None = None  # of the agent, once it runs
        self.over = False  # the agent has ended by itself: from then on nothing stops it any more
        self.started_at = 0.0
        self.next_beat = 0.0
        self.give_up: float = since_boot() + spec["max_runtime"]
        self.kill_at: float | None = None

    # -- what to do, in order ------------------------------------------------------------------------------------

    def run(self) -> "dict[str, object]":
        """Set up, start the agent, see it to its end. Returns the exit record."""
        spec = self.spec
        self.group.make(spec.get("limits", ()))
        problem = self.set_up() or self.hook("after_create") or self.hook("before_run")
        failpoint("set up")
        self.listen(0)
        self.look()
        if self.reason:
            return self.end("stopped")
        problem = problem or self.spawn(spec["argv"], spec["env"], spec["cwd"], record=True, limited=True)
        if problem:
            return self.end("start-failed", detail=problem)
        self.running = True
        self.started_at = time.time()
        self.progress = Progress(spec, self.log)
        self.next_beat = 0.0  # the lease says so at once
        code = self.watch()
        unmet = "" if code or self.reason else self.unmet()
        return self.end("exited", code=code, detail=self.group.starved() if code else "", unmet=unmet)

    def end(
        self, reason: str, *, code: "int | None" = None, detail: str = "", unmet: str = ""
    ) -> "dict[str, object]":
        """The exit record, as model/run.py's RunExit. A reason to stop comes before the one given."""
        reason = self.reason or reason
        if reason == "timeout" and not detail:
            detail = f"it ran longer than max_runtime, {self.spec['max_runtime']:g} s"
        if reason == "stalled":
            detail = f"no output, no new process and no change in its folder for {self.spec['stall']:g} s"
        return {
            "run_id": self.spec["run_id"],
            "reason": reason,
            "started": self.running,
            "exit_code": code,
            "detail": detail,
            "unmet": unmet,
            "started_at": self.started_at,
            "ended_at": time.time(),
        }

    def finish(self, end: "dict[str, object]") -> None:
        """Record the end, however long the disk stays full, and only then let the lease go."""
        while True:
            try:
                write_atomically(os.path.join(self.folder, "exit.json"), json.dumps(end), durable=True)
                break
            except OSError as error:
                if not os.path.isdir(self.folder):
                    return
                complain(f"exit.json could not be written: {error}")
            self.lease.beat(running=False)
            self.listen(TICK)
        if self.running and self.reason != "lease-gone":
            self.over = True
            self.aftermath("after_run")
        self.lease.release()

    # -- children ------------------------------------------------------------------------------------------------

    def set_up(self) -> str:
        """Run the setup commands, one run at a time in each `setup_lock`. Returns what went wrong, "" for nothing."""
        if not self.spec["setup"]:
            return ""
        self.look()
        lock = os.open(self.spec["setup_lock"], os.O_RDWR | os.O_CREAT, 0o600)
        try:
            while not self.reason and not try_lock(lock):
                self.look()
                self.listen(0.1)
            unlock(self.spec["setup_cache"])
            for step in self.spec["setup"]:
                if self.reason:
                    return ""
                problem = self.spawn(step["argv"], self.spec["setup_env"], "/", record=False, limited=False)
                if not problem and self.watch() != 0:
                    problem = self.complaint()
                if problem:
                    return f"{step['what']} failed: {problem}"
            return ""
        finally:
            os.close(lock)

    def hook(self, name: str) -> str:
        """Run a hook of the workspace, where it has that one. Returns what went wrong, "" for nothing."""
        script = self.spec["hooks"].get(name)
        problem = self.shell(script, self.spec["hook_limit"]) if script and not self.reason else ""
        return f"hook {name} failed: {problem}" if problem else ""

    def unmet(self) -> str:
        """The first of the recipe's checks that fails, and how; "" where none does. The run may still be stopped."""
        self.progress = None
        for command in self.spec["checks"]:
            self.over = False
            problem = self.shell(command, self.spec["check_limit"])
            if self.reason:
                return ""
            if problem:
                return f"`{command}`: {problem}"
        return ""

    def shell(self, script: str, limit: float) -> str:
        """Run a script in the run's folder, with its environment. Returns what went wrong, "" for nothing."""
        before, shell = self.log.heard, ["/bin/sh", "-c", script]
        problem = self.spawn(shell, self.spec["env"], self.spec["cwd"], record=False, limited=True)
        code = 0 if problem else self.watch(limit=limit)
        if self.late:
            return f"it took longer than {limit:g} s"
        return problem or (f"exit status {code}: {self.complaint(before)}" if code else "")

    def aftermath(self, name: str) -> None:
        """A hook whose failure changes nothing: it is said in the log."""
        self.reason = ""  # nothing stops it but its own limit
        if (problem := self.hook(name)) and self.log.file >= 0:
            self.log.write(f"tsched: {problem}\n".encode("utf-8", "replace"))

    def complaint(self, since: int = 0) -> str:
        """What the log's end says of a failure: the line that a person should read first."""
        try:
            lines = self.log.last(since).decode("utf-8", "replace").strip().splitlines() or ["it said nothing"]
        except OSError as error:
            return f"{error}"
        return next((line for line in lines if line.startswith("fatal: ")), lines[-1])[:500]

    def spawn(self, argv: "list[str]", env: "dict[str, str]", cwd: str, *, record: bool, limited: bool) -> str:
        """Start a child in a session of its own. Returns why it could not be started, "" where it was.

        The child waits until its pid is on record, so that a shim killed right here leaves no stranger behind.
        """
        try:
            self.log.open()
        except OSError as error:
            return f"its log {self.log.path} could not be opened: {error.strerror}"
        report, reporter = os.pipe()
        gate, opener = os.pipe()
        shim = os.getpid()
        failpoint("child to be started")
        pid = os.fork()
        if pid == 0:
            caps = self.caps() if limited else []
            become(
                argv, env, cwd, out=self.log.sink, group=self.group, caps=caps, user=self.spec.get("user"),
                gate=gate, reporter=reporter, opener=opener, shim=shim,
            )  # fmt: skip
        os.close(gate)
        os.close(reporter)
        problem = b""
        try:
            if record:
                self.record_agent(pid)
            failpoint("child to be let go")
            os.write(opener, b".")
            failpoint("child let go")
        except OSError as error:
            problem = f"its record could not be written: {error.strerror}".encode()
        os.close(opener)
        with os.fdopen(report, "rb") as answer:
            problem = problem or answer.read()
        if problem:
            os.waitpid(pid, 0)
            return problem.decode("utf-8", "replace")
        self.main = pid
        return ""

    def caps(self) -> "list[tuple[int, int]]":
        """The limits that a process is held to by itself: those that the group does not hold all of the run to."""
        limits = [
            limit for limit in self.spec.get("limits", ()) if limit["rlimit"] and limit["name"] not in self.group.held
        ]
        return [(getattr(resource, limit["rlimit"]), limit["most"]) for limit in limits]

    def record_agent(self, pid: int) -> None:
        stat = stat_of(pid)
        agent = {"agent_pid": pid, "agent_start": stat[1] if stat else 0, "boot_id": read_boot_id()}
        record = {**agent, "output": os.readlink(f"/proc/self/fd/{self.log.sink}")}
        write_atomically(os.path.join(self.folder, "agent.json"), json.dumps(record), durable=False)
        own = stat_of(os.getpid())
        if self.spec.get("elsewhere"):
            self.lease.fields["host"] = os.uname().nodename
        self.lease.fields.update(agent, pid=os.getpid(), state="running", process_start=own[1] if own else 0)

    def watch(self, *, limit: float = 0.0) -> int:
        """Wait until the child and whatever it left behind have ended. Returns its exit code (signal N: 128 + N).

        `limit`: seconds that it may take, 0 for as long as the run may.
        """
        code: int | None = None
        until = since_boot() + limit
        self.late = False
        while True:
            ended, alone = self.reap()
            code = ended if code is None else code
            if ended and self.running and self.lease.alarm and signal.sigtimedwait((signal.SIGTERM,), TOGETHER):
                self.stop("stopped")
            if alone:
                self.log.empty()
                self.kill_at = None
                return code if code is not None else 255
            if code is None:
                self.look()
                if limit and self.kill_at is None and since_boot() >= until:
                    self.late = True
                    self.terminate(min(SWEEP_GRACE, self.spec["stop_grace"]))
            elif self.kill_at is None:  # it ended by itself: what it left behind has to go too
                self.over = self.running
                self.terminate(min(SWEEP_GRACE, self.spec["stop_grace"]))
            self.beat()
            self.listen(self.kill_or_pause(since_boot()))

    def kill_or_pause(self, now: float) -> float:
        """KILL what has outlived its grace. Returns the seconds until there is something to do again."""
        if self.kill_at is None:
            until = TICK if self.over else self.give_up - now  # an ended run has no more time to use up
            return max(0.0, min(TICK, self.next_beat - now, until))
        if now < self.kill_at:
            return max(0.0, min(TICK, self.next_beat - now, self.kill_at - now))
        self.signal_all(signal.SIGKILL)
        self.group.kill()
        return KILL_EVERY if now < self.kill_at + 2 else TICK  # stuck in the kernel: wait for it without haste

    def reap(self) -> "tuple[int | None, bool]":
        """Collect every ended child. Returns the main one's exit code, and whether no child is left at all."""
        code = None
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return code, True
            if pid == 0:
                return code, False
            if pid == self.main:
                code = os.waitstatus_to_exitcode(status)
                code = 128 - code if code < 0 else code

    # -- reasons to stop -----------------------------------------------------------------------------------------

    def look(self) -> None:
        """Find a reason to stop, unless there is one already, or the agent has ended."""
        if self.reason or self.over:
            return
        if not self.beat():
            self.stop("lease-gone")
        elif self.lease.alarm and since_boot() - self.lease.reached > SILENT * self.spec["heartbeat"]:
            self.stop("lease-gone")  # the runner will soon take us for dead
        elif since_boot() >= self.give_up:
            self.stop("timeout")
        elif reason := self.request():
            self.stop(reason)
        elif self.progress is not None and self.progress.stalled():
            self.stop("stalled")

    def beat(self) -> bool:
        """Heartbeat, where one is due. False where it found the lease gone or another run's."""
        now = since_boot()
        if now < self.next_beat:
            return True
        self.next_beat = now + self.spec["heartbeat"]
        return self.lease.beat(running=self.running)

    def request(self) -> str:
        """The reason of a stop request whose time has come. From the rename on it can't be recalled."""
        path = os.path.join(self.folder, "stop")
        try:
            text = read_text(path)
        except OSError:
            return ""
        reason = "stopped"
        try:
            asked = json.loads(text)
            if time.time() < float(asked["at"]):
                return ""
            reason = asked["reason"] if asked["reason"] in REQUESTS else reason
        except (ValueError, TypeError, KeyError):
            pass  # written by hand, and plain enough: stop now
        try:
            failpoint("to stop")
            os.rename(path, os.path.join(self.folder, "stopping"))
            failpoint("stopping")
        except OSError:
            return ""  # recalled in this very moment
        return reason

    def stop(self, reason: str) -> None:
        """Begin to stop the run: TERM now, KILL after stop_grace. The first reason stands."""
        if not self.reason and not self.over:
            self.reason = reason
            self.terminate(self.spec["stop_grace"])

    def terminate(self, grace: float) -> None:
        self.kill_at = since_boot() + grace
        self.signal_all(signal.SIGTERM)
        self.signal_all(signal.SIGCONT)  # a stopped process could not act on TERM

    def signal_all(self, number: int) -> None:
        for pid, start in descendants():
            send(pid, start, number)

    def listen(self, seconds: float) -> None:
        """Take in output, then sleep until a signal or for so long.

        TERM and INT stop the run; HUP is the terminal's, not ours. After some output the next is not waited for.
        """
        taken = self.log.drain()
        if taken >= PLENTY:
            heard = signal.sigtimedwait(CALLS, 0)
        else:
            heard = signal.sigtimedwait(CALLS if taken else HEARD, min(seconds, NAP) if taken else seconds)
        if heard is not None and heard.si_signo in (signal.SIGTERM, signal.SIGINT):
            self.stop("stopped")


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
        LIBC.prctl(PR_SET_PDEATHSIG, int(signal.SIGKILL), 0, 0, 0)  # a change of user takes it away: after that
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
        LIBC.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)  # neither sudo nor another set-user-id program leads back


def find(name: str, env: "dict[str, str]") -> str:
    """A program by the PATH that it will have itself."""
    for folder in env.get("PATH", os.defpath).split(os.pathsep):
        path = os.path.join(folder, name)
        if os.access(path, os.X_OK) and os.path.isfile(path):
            return path
    raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT))


def unlock(cache: str) -> None:
    """Remove from a shared repository the locks that a killed git has left: old ones of what setup itself writes."""
    try:
        for place, folders, names, at in os.fwalk(cache):  # by handle: no link that is put there leads it elsewhere
            if place == cache:
                folders[:] = ["refs"]
            for name in names:
                if name.endswith(".lock"):
                    drop_stale(name, at)
    except OSError:
        return  # not made yet


def drop_stale(name: str, folder: int) -> None:
    """Remove a file that has been in a folder (its handle) for too long."""
    try:
        if os.stat(name, dir_fd=folder, follow_symlinks=False).st_mtime < time.time() - STALE_LOCK:
            os.unlink(name, dir_fd=folder)
    except OSError:
        return


def try_lock(handle: int) -> bool:
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def fence(folder: str) -> bool:
    """Take the run's lock (held for life, it is the sign of it), then its one start. False: somebody was first."""
    try:
        lock = os.open(os.path.join(folder, "lock"), os.O_RDWR | os.O_CLOEXEC)
        fcntl.flock(lock, fcntl.LOCK_EX)  # readers that test it hold it for an instant: wait for them
        failpoint("locked")
        started = os.open(os.path.join(folder, "started"), os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except (FileExistsError, FileNotFoundError):
        return False
    failpoint("fenced")
    with os.fdopen(started, "w") as file:
        json.dump({"by": "shim", "pid": os.getpid(), "boot_id": read_boot_id()}, file)
    return True


def depart(shim: Shim) -> int:
    """The hook of an ended run's workspace that is about to be removed; `hooked` says that it had its chance."""
    lock = os.open(os.path.join(shim.folder, "lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    if not try_lock(lock) or os.path.exists(os.path.join(shim.folder, "hooked")):
        return LOST_THE_FENCE
    shim.over = True
    shim.group.make(shim.spec.get("limits", ()))
    try:
        shim.aftermath("before_remove")
    finally:
        shim.group.remove()
    write_atomically(os.path.join(shim.folder, "hooked"), "", durable=False)
    return 0


def main(folder: str, *, departing: bool = False) -> int:
    """See one run through, or its workspace's removal begin. Returns the exit status."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_BLOCK, HEARD)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, (signal.SIGALRM,))
    os.closerange(3, 4096)  # nothing of whoever started us may stay open in a run
    if os.getsid(0) != os.getpid():
        attempt(os.setsid)
    if LIBC.prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "this kernel has no child subreaper")
    spec = json.loads(read_text(os.path.join(folder, "spec.json")))
    shim = Shim(folder, spec)
    if departing:
        return depart(shim)
    failpoint("begun")
    if not fence(folder):
        return LOST_THE_FENCE
    try:
        end = shim.run()
        failpoint("run over")
        shim.finish(end)
    finally:
        shim.group.remove()
    return 0


def reap_all() -> None:
    """Collect every ended child. Raises ChildProcessError where none is left."""
    while os.waitpid(-1, os.WNOHANG)[0]:
        pass


def keep(folder: str) -> int:
    """On a cluster's node: the shim's own parent, which ends what a shim leaves that is killed. It reads no file.

    There the runner can't look for it, and not every cluster does.
    """
    keeper = os.getpid()
    LIBC.prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    shim = os.fork()
    if shim == 0:
        LIBC.prctl(PR_SET_PDEATHSIG, int(signal.SIGKILL), 0, 0, 0)
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


if __name__ == "__main__":
    words = sys.argv[2:]
    sys.exit(keep(sys.argv[1]) if words == ["kept"] else main(sys.argv[1], departing=words == ["depart"]))
