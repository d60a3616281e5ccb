"""The morning checklist, judged: facts about a runner in, one finding a check out. Times: seconds since the epoch."""

from collections.abc import Mapping, Sequence

from tsched.model.finding import Finding, fail, ok, shortened, warn
from tsched.model.records import dataclass
from tsched.model.units import about, count, size

LATE = 3  # usual gaps between passes, after which one is missing
CRON = 60.0  # seconds: no scheduler of passes is finer
STALE = 900.0  # seconds without an answer of the remote, after which what is applied may be old
MISSED = 4  # heartbeats
TOLERANCE = 60.0  # seconds: for what is being done just now
HOUR, DAY = 3600.0, 86_400.0
SPIKE, MANY = 3, 10  # times the usual number of errors, and at least so many
FRESH = 5.0  # seconds that two clock readings may be apart, a file system's among them
BEGAN = 1_700_000_000.0  # when this program was not yet written: no clock is right before it
LOW, LEAST = (0.10, 1 << 30), (0.01, 100 << 20)  # of a disk: a part of it, and bytes
GIT = (2, 30)  # the oldest that is known to work


def runner(
    *, pid: int | None, left: int | None, last: float | None, interval: float, gap: float | None, now: float
) -> Finding:
    """Whether passes go on. `pid`: of the runner that holds the folder. `left`: in the lock file of one that is gone.

    `last`: the end of the last pass. `interval`, `gap`: seconds between passes, as set and as they were lately; with
    cron there is no daemon, and its gap is the only thing known.
    """
    if last is None:
        return fail("runner", "no pass was ever made here", "start it: `tsched run --daemon`, or cron")
    usual = max(interval, gap or 0.0)
    seen = f"last pass {about(now - last)} ago, one about every {about(usual)}"
    if pid is not None:
        if now - last > max(LATE * usual, usual + TOLERANCE):
            words = f"pid {pid} holds the lock, but finishes no pass: {seen}"
            return fail("runner", words, "look at the end of its log; `tsched history --slow` shows where time went")
        return ok("runner", f"pid {pid} runs, {seen}")
    if left is not None:
        mend = "start it again (runs went on; the next pass picks them up): `tsched run --daemon`"
        return fail("runner", f"the runner with pid {left} was killed, {seen}", mend)
    if now - last > LATE * max(usual, CRON):
        return fail("runner", f"no runner, {seen}", "start it: `tsched run --daemon`, or look why cron does not")
    return ok("runner", f"no daemon runs, {seen}")


def revision(
    *, applied: str | None, fetched: str | None, behind: int | None, rejected: str | None, held: str | None
) -> Finding:
    """Whether the newest commit is in force. `behind`: commits between the two, where they are known here."""
    if applied is None:
        return fail(
            "revision", rejected or held or "no revision is applied", "push a sound fleet, then `tsched sync`"
        )
    here = f"{applied[:12]} is applied"
    far = "" if behind is None else f", {count(behind, 'commit')} behind"
    if rejected is not None:
        mend = "mend it and push: `tsched validate --revision REV` shows every fault"
        return fail("revision", f"{here}{far}; the newest is rejected: {rejected}", mend)
    if held is not None:
        name = (fetched or "REV")[:12]
        return warn(
            "revision", f"{here}{far}; the newest is held: {held}", f"look at it, then `tsched accept {name}`"
        )
    if fetched not in (None, applied):
        return warn("revision", f"{here}{far}; {str(fetched)[:12]} was fetched", "`tsched sync` applies it now")
    return ok("revision", f"{here}, the newest that was fetched")


def remote(*, asked: bool, problem: str | None, since: float | None, now: float) -> Finding:
    """Whether the fleet repo answered the last pass. `since`: when it began not to."""
    if not asked:
        return ok("remote", "the fleet repo was not asked yet")
    if problem is None:
        return ok("remote", "the fleet repo answered the last pass")
    age = now - since if since is not None else 0.0
    mend = "the applied revision keeps running; mend the remote, or TSCHED_REPO"
    judge = fail if age > STALE else warn
    return judge("remote", f"no answer for {about(age)}: {problem}", mend)


@dataclass(frozen=True, slots=True, kw_only=True)
class LeaseFacts:
    """One lease. `alive`: whether a process holds it, or its result is about to be taken. `every`: seconds between
    heartbeats. `give_up`: when its run should be over at the latest, None where that is not known."""

    task_id: str
    agent: str
    alive: bool
    claiming: bool
    heartbeat: float
    every: float
    give_up: float | None


def leases(found: Sequence[LeaseFacts], *, unreadable: Sequence[str], now: float) -> Finding:
    """Whether every lease stands for a run that lives and is in time."""
    dead = [one for one in found if not one.alive and not (one.claiming and now - one.heartbeat < TOLERANCE)]
    over = [one for one in found if one.alive and one.give_up is not None and now > one.give_up + TOLERANCE]
    quiet = [one for one in found if one.alive and now - one.heartbeat > max(MISSED * one.every, FRESH)]
    names = {"no process holds": dead, "past max_runtime:": over, "without heartbeat:": quiet}
    words = [f"{what} {shortened(_lease(one, now) for one in some)}" for what, some in names.items() if some]
    words += [f"unreadable: {shortened(unreadable)}"] if unreadable else []
    if not words:
        return ok("leases", f"{count(len(found), 'lease')}, none stale")
    mend = "the next pass recovers them: `tsched sync`" if dead or unreadable else "look at them: `tsched status`"
    judge = fail if dead or over or unreadable else warn
    return judge("leases", "; ".join(words), mend)


def _lease(one: LeaseFacts, now: float) -> str:
    return f"task {one.task_id} ({one.agent}, heartbeat {about(now - one.heartbeat)} ago)"


def errors(times: Sequence[float], *, midnight: float, days: int, newest: str, now: float) -> Finding:
    """Whether today has more errors than other days. `times`: of the errors since `days` days before `midnight`."""
    today = [time for time in times if time >= midnight]
    usual = (len(times) - len(today)) / max(days, 1)
    compared = f"{count(len(today), 'error')} today, {usual:.1f} a day before"
    if not today:
        return ok("errors", compared)
    words = f"{compared}; the last {about(now - max(today))} ago: {newest}"
    spike = len(today) >= MANY and len(today) > SPIKE * usual
    judge = fail if spike and now - max(today) < HOUR else warn
    return judge("errors", words, "`tsched errors --since 24h --by kind` groups them")


def registry(*, revision: str | None, agents: int, queues: Sequence[str], absent: Sequence[str]) -> Finding:
    """Whether there is a fleet to give work to. `absent`: recipes that agents name and the fleet lacks."""
    if revision is None:
        return fail("registry", "no fleet is loaded", "set TSCHED_REPO, push a sound fleet, then `tsched sync`")
    if absent:
        return fail("registry", f"recipes are absent: {shortened(absent)}", "add them to recipes/ and push")
    if not agents:
        return warn("registry", f"{revision[:12]} has no agent that this host serves", "add one: `tsched agent add`")
    return ok("registry", f"{count(agents, 'agent')} in {count(len(queues), 'queue')}: {shortened(queues)}")


def task_server(name: str, *, problem: str | None, seconds: float, waiting: int) -> Finding:
    """Whether the task server answered a real call."""
    if problem is not None:
        return fail("task server", f"{name}: {problem}", "start it, or mend TSCHED_TASKS; runs go on meanwhile")
    return ok("task server", f"{name} answered in {seconds:.2f}s, {count(waiting, 'task')} waiting")


def programs(missing: Sequence[tuple[str, str]], *, agents: int) -> Finding:
    """Whether what agents start is here. `missing`: what is not, and its mend."""
    if missing:
        return fail("programs", shortened((words for words, _ in missing), 3), " ".join(m for _, m in missing[:3]))
    if not agents:
        return ok("programs", "there is no agent to start one")
    return ok("programs", f"all that {count(agents, 'agent')} start is on PATH, with its variables")


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Somewhere that runs are for, beside this machine. `problem`: why it can't be had, "" where it can."""

    name: str
    problem: str
    mend: str


def clusters(places: Sequence[Place]) -> Finding:
    """Whether runs can be brought where agents say that they are for."""
    if wrong := [one for one in places if one.problem]:
        words = shortened((f"{one.name}: {one.problem}" for one in wrong), 3)
        return fail("clusters", words, "; ".join(dict.fromkeys(one.mend for one in wrong)))
    if not places:
        return ok("clusters", "all runs are this machine's own")
    return ok("clusters", f"{', '.join(one.name for one in places)}: as asked just now, there")


def disk(where: str, *, free: int, total: int, inodes: int, all_inodes: int) -> Finding:
    """Whether there is room. `free`, `total`: bytes. `all_inodes` is 0 where the file system has no such limit."""
    room, names = free / max(total, 1), inodes / all_inodes if all_inodes else 1.0
    words = f"{size(free)} free ({room:.0%}) for {where}" + (f", {names:.0%} of its inodes" if all_inodes else "")
    mend = "make room (`tsched gc --dry-run` says what it would remove): a full disk stops starts"
    if room < LEAST[0] or free < LEAST[1] or names < LEAST[0]:
        return fail("disk", words, mend)
    if room < LOW[0] or free < LOW[1] or names < LOW[0]:
        return warn("disk", words, mend)
    return ok("disk", words)


def clock(written: Mapping[str, float], *, now: float) -> Finding:
    """Whether time moves on. `written`: when things were written here, by what they are: none in the future."""
    mend = "set this machine's clock, and have it kept (systemd-timesyncd, chrony): deadlines count by it"
    if now < BEGAN:
        return fail("clock", "this machine's clock stands before this program was written", mend)
    newest = max(written, key=lambda what: written[what], default=None)
    if newest is not None and (ahead := written[newest] - now) > FRESH:
        judge = fail if ahead > TOLERANCE else warn
        return judge("clock", f"the clock stands {about(ahead)} before {newest}", mend)
    return ok("clock", "nothing was written in the future" if written else "nothing was written yet")


@dataclass(frozen=True, slots=True, kw_only=True)
class FolderFacts:
    """A folder's permission bits and owner; `there` False: there is none."""

    path: str
    there: bool = True
    mode: int = 0o700
    owner: int = 0


def folders(found: Sequence[FolderFacts], *, user: int) -> Finding:
    """Whether the state folder is its owner's alone. `user`: the one who asks."""
    absent = [one.path for one in found if not one.there]
    if absent:
        return fail("folders", f"there is no {shortened(absent)}", "`tsched validate-config --fix` makes them")
    for one in found:
        if one.mode & 0o022:
            return fail("folders", f"others may write to {one.path} (mode {one.mode:o})", f"chmod 700 {one.path}")
    for one in found:
        if one.owner != user:
            words = f"{one.path} belongs to uid {one.owner}, this is uid {user}"
            return warn("folders", words, "run tsched as the user whose folder it is")
        if one.mode & 0o077:
            return warn("folders", f"others may read {one.path} (mode {one.mode:o})", f"chmod 700 {one.path}")
    return ok("folders", "for their owner alone")


def identity(known: str | None, *, displaced: str | None) -> Finding:
    """Whether the state folder is the one that its runner's id was given to. `displaced`: why it is not."""
    if displaced is not None:
        mend = "`tsched runner renew` where the other one lives on, `tsched runner adopt` where it is gone for good"
        return fail("identity", f"the state folder has the runner id of another place: {displaced}", mend)
    return ok("identity", "none yet: the first pass makes it" if known is None else f"runner {known}")


def containment(*, base: str | None, controllers: Sequence[str], why_not: str, wanted: Sequence[str]) -> Finding:
    """What keeps a run together here. `base`: where the cgroups of runs are. `wanted`: resources that agents have.

    `controllers`: those that hold such a group to limits.
    """
    by = {"cpus": "cpu", "memory": "memory", "processes": "pids"}
    unheld = [key for key, controller in by.items() if key in wanted and controller not in controllers]
    seen = f"a cgroup for each run, below {base}" if base is not None else f"no cgroups, runs' shims alone: {why_not}"
    if unheld:
        words = f"{seen}; no controller holds all of a run to {', '.join(unheld)}"
        return warn("containment", words, "delegate them: see docs/agents.md, `What a run may use`")
    return ok("containment", seen + (f", limits by {', '.join(controllers)}" if controllers else ""))


def git(version: Sequence[int] | None) -> Finding:
    """Whether git is here and new enough. None: it is not."""
    if version is None:
        return fail("git", "git can't be run", "install git, or set PATH so that it is found")
    shown = ".".join(map(str, version))
    if tuple(version) < GIT:
        return warn("git", f"git {shown} is old", f"install {'.'.join(map(str, GIT))} or newer")
    return ok("git", f"git {shown}")


def workspaces(kept: Sequence[str], *, most: int = 20) -> Finding:
    """How many work folders wait for a person."""
    if not kept:
        return ok("workspaces", "no work folder is left over")
    words = f"{count(len(kept), 'work folder')} kept: {shortened(kept, 3)}"
    if len(kept) > most:
        return warn("workspaces", words, "`tsched workspace list` says why, `tsched workspace remove` removes them")
    return ok("workspaces", words)


def overrides(words: Sequence[str]) -> Finding:
    """What operators decided on this machine beside git."""
    if words:
        return warn("overrides", shortened(words), "take them back, or make git agree")
    return ok("overrides", "none: git decides")
