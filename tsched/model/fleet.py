"""The fleet: the validated, typed content of one revision. Durations are seconds; every default is resolved."""

from collections.abc import Iterator, Mapping
from dataclasses import field, fields, replace
from enum import StrEnum

from tsched.model.alert import Alerts
from tsched.model.placement import Engine, Kubernetes, Slurm
from tsched.model.records import dataclass
from tsched.model.units import format_size

LOCAL = "local-"  # how a revision begins that is no commit: the content of this machine's control file and recipes
LEGACY = "legacy"  # the pool of agents that legacy mode knows by their limit alone
LOCAL_PARKED = "parked"  # reserved agent name: who a parked task is assigned to on servers without that status


class OnDeadline(StrEnum):
    """What becomes of a removed agent's runs when its drain deadline passes."""

    REQUEUE = "requeue"  # stop them; their tasks go back, the attempt is not charged
    FAIL = "fail"  # stop them; their tasks are parked for a person
    WAIT = "wait"  # let them end by themselves, however long


class Keep(StrEnum):
    """When a run's workspace outlives the run."""

    NEVER = "never"
    ON_FAILURE = "on-failure"
    ALWAYS = "always"


class Evidence(StrEnum):
    """What counts as proof that a run which exited 0 did its task."""

    EXIT = "exit"  # the exit status alone
    TOKENS = "tokens"  # tokens were spent
    TASK = "task"  # the agent itself completed, moved or reassigned the task


@dataclass(frozen=True, slots=True, kw_only=True)
class DrainPolicy:
    """How long a removed agent's runs may go on (seconds from the cordon), and what happens then."""

    deadline: float = 3600.0
    on_deadline: OnDeadline = OnDeadline.REQUEUE


@dataclass(frozen=True, slots=True, kw_only=True)
class Suspend:
    """A pool that takes no new task; runs are left alone. `until` is seconds since the epoch, None: no end."""

    until: float | None = None
    reason: str = ""

    def holds(self, now: float) -> bool:
        """Whether the pool is still suspended at `now` (seconds since the epoch): `until` ends it by itself."""
        return self.until is None or now < self.until


@dataclass(frozen=True, slots=True, kw_only=True)
class Hooks:
    """Shell scripts around a run, run in its workspace with its environment; "": none. `timeout`: seconds for each.

    As in OpenAI's Symphony specification the first two end the run where they fail, the others are only logged.
    """

    after_create: str = ""
    before_run: str = ""
    after_run: str = ""
    before_remove: str = ""
    timeout: float = 60.0

    def scripts(self) -> Mapping[str, str]:
        """Those that there are, by name, in the order of a run."""
        names = ("after_create", "before_run", "after_run", "before_remove")
        return {name: script for name in names if (script := getattr(self, name))}


@dataclass(frozen=True, slots=True, kw_only=True)
class Workspace:
    """Each run of the pool gets a fresh git worktree of `repo` at `ref`."""

    repo: str
    ref: str = "HEAD"
    keep: Keep = Keep.ON_FAILURE
    hooks: Hooks = field(default_factory=Hooks)


@dataclass(frozen=True, slots=True, kw_only=True)
class Resources:
    """The most that one run may use; None: no limit. `memory` and `file_size` (of each file) in bytes, `cpus` in
    processors."""

    cpus: float | None = None
    memory: int | None = None
    processes: int | None = None
    open_files: int | None = None
    file_size: int | None = None

    def over(self, base: "Resources") -> "Resources":
        """These, and of `base` what is not said here."""
        said = {one.name: value for one in fields(self) if (value := getattr(self, one.name)) is not None}
        return replace(base, **said)

    def __str__(self) -> str:
        given = {one.name: getattr(self, one.name) for one in fields(self)}
        sizes = ("memory", "file_size")
        words = (f"{key}={format_size(one) if key in sizes else f'{one:g}'}" for key, one in given.items() if one)
        return " ".join(words) or "none"


class Session(StrEnum):
    """What a retry of a task begins with."""

    FRESH = "fresh"  # a new conversation in a new working folder
    CONTINUE = "continue"  # the conversation of the run before, in its folder as it was left


@dataclass(frozen=True, slots=True, kw_only=True)
class Runtime:
    """How a recipe becomes a command: argv with placeholders, the variables that must be there, the proof.

    `parameters` is the flag before each `key=value` of the recipe's parameters ("": they are rendered into {prompt}).
    `mcp`: what is added to argv where the task server has MCP tools; {mcp} stands for their address. `mcp_config`: a
    variable, and the JSON object that is merged into it instead, for a program that is told so. {mcp_auth} in either
    becomes `mcp_auth` where agents may see the task server's token, else nothing.
    `resume`: argv of a run that goes on with the conversation {session}; () where the agent can't. `opening`: argv of
    the run that begins such a conversation, where it is another than `argv`; {run_id} may name it.
    """

    name: str
    argv: tuple[str, ...]
    parameters: str = ""
    mcp: tuple[str, ...] = ()
    mcp_config: tuple[str, str] | None = None
    mcp_auth: str = ""
    opening: tuple[str, ...] = ()
    resume: tuple[str, ...] = ()
    env: tuple[str, ...] = ()
    evidence: Evidence = Evidence.TASK


@dataclass(frozen=True, slots=True, kw_only=True)
class Retry:
    """Attempts count the first run; the n-th retry waits backoff × 2^(n-1) seconds, at most max_backoff."""

    attempts: int = 3
    backoff: float = 30.0
    max_backoff: float = 3600.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Guard:
    """How many agents one revision may remove before a person has to agree: a percentage or a count."""

    percent: int | None = 50
    agents: int | None = None

    def holds(self, *, removed: int, applied: int) -> bool:
        """Whether removing `removed` of `applied` agents is more than allowed. Exactly the limit passes."""
        if self.agents is not None:
            return removed > self.agents
        return self.percent is not None and removed * 100 > self.percent * applied

    def __str__(self) -> str:
        return str(self.agents) if self.agents is not None else f"{self.percent}%"


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Fleet-wide settings (`pools/limits.yaml`). `runtimes` holds the fleet's own, by name, not the built-in ones."""

    max_running: int | None = None
    spawn_per_cycle: int | None = None
    loop_interval: float = 60.0
    heartbeat: float = 15.0
    max_runtime: float = 3600.0
    stall: float = 600.0
    stop_grace: float = 30.0
    resources: Resources = field(default_factory=Resources)
    executor: Engine = Engine.LOCAL
    slurm: Slurm = field(default_factory=Slurm)
    kubernetes: Kubernetes = field(default_factory=Kubernetes)
    retry: Retry = field(default_factory=Retry)
    guard: Guard = field(default_factory=Guard)
    runtimes: Mapping[str, Runtime] = field(default_factory=dict)
    alerts: Alerts = field(default_factory=Alerts)


@dataclass(frozen=True, slots=True, kw_only=True)
class Parameter:
    """A recipe's parameter, as goose declares it."""

    key: str
    requirement: str = "required"  # required | optional | user_prompt
    input_type: str = "string"
    default: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class RecipeFile:
    """One file that a recipe consists of: path in the repo, git blob id, text as committed."""

    path: str
    blob: str
    text: str = field(repr=False, compare=False)


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class Power:
    """Something that a run may use. `kind`: extension, command, host or variable."""

    kind: str
    what: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """What an agent runs. `files` has the recipe's own file first, then each sub-recipe it reaches.

    `powers`: what it and those sub-recipes ask for. `response`: the JSON Schema of its answer, as JSON text, "" for
    none. `checks`: shell commands that must succeed after a run, each within `check_timeout` seconds. All of these
    are a matter of the texts, so not compared again.
    """

    path: str  # in the repo, such as recipes/vaela.yaml
    title: str
    prompt: str
    instructions: str = ""
    parameters: tuple[Parameter, ...] = ()
    env_keys: tuple[str, ...] = ()
    files: tuple[RecipeFile, ...] = ()
    powers: tuple[Power, ...] = field(default=(), compare=False)
    response: str = field(default="", compare=False)
    checks: tuple[str, ...] = field(default=(), compare=False)
    check_timeout: float = field(default=300.0, compare=False)

    @property
    def content(self) -> str:
        """What its files come to: 12 hexadecimal digits that change where one of them does."""
        import hashlib  # it loads OpenSSL, and few commands need it

        blobs = " ".join(file.blob for file in self.files)
        return hashlib.sha256(blobs.encode()).hexdigest()[:12]


@dataclass(frozen=True, slots=True, kw_only=True)
class Agent:
    """A named worker: `limit` slots, a recipe (a key of Fleet.recipes) and a runtime. All defaults resolved.

    `stall`: seconds that a run may go on without progress; 0: no limit. `session`: what a retry begins with.
    """

    name: str
    limit: int = 1
    recipe: str
    runtime: str = "goose"
    max_runtime: float = 3600.0
    stall: float = 600.0
    priority_floor: int = 0
    session: Session = Session.FRESH
    resources: Resources = field(default_factory=Resources)
    executor: Engine = Engine.LOCAL
    slurm: Slurm = field(default_factory=Slurm)
    kubernetes: Kubernetes = field(default_factory=Kubernetes)


@dataclass(frozen=True, slots=True, kw_only=True)
class Pool:
    """Agents that serve one queue. `labels`: what runners may choose it by (TSCHED_POOLS).

    `own_only`: they work what is assigned to them and take nothing unassigned: legacy mode, which no file of a fleet
    repo can ask for.
    """

    name: str
    queue: str
    labels: Mapping[str, str] = field(default_factory=dict)
    own_only: bool = False
    max_running: int | None = None
    suspend: Suspend | None = None
    drain: DrainPolicy = field(default_factory=DrainPolicy)
    workspace: Workspace | None = None
    agents: tuple[Agent, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Fleet:
    """Pools (by name, sorted), fleet-wide limits and recipes (by repo path) of one revision.

    Equality is of content: the revision itself is not compared.
    """

    revision: str = field(compare=False)
    pools: tuple[Pool, ...] = ()
    limits: Limits = field(default_factory=Limits)
    recipes: Mapping[str, Recipe] = field(default_factory=dict)

    def agents(self) -> Iterator[tuple[Pool, Agent]]:
        """Each agent with its pool, in pool order then file order."""
        for pool in self.pools:
            for agent in pool.agents:
                yield pool, agent

    def find(self, agent: str) -> tuple[Pool, Agent] | None:
        """The agent of that name with its pool, or None."""
        return next((pair for pair in self.agents() if pair[1].name == agent), None)
