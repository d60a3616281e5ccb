"""Host settings: what one machine says about its runner, from flags, environment and env file.

Precedence: flag, then environment, then env file, then default; within each, `TSCHED_` before `TINYSCHEDULER_`.
With a fleet repo, git decides the fleet's figures: a `TINYSCHEDULER_` figure is then shown but not used.
"""

import os
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import field, replace
from pathlib import Path
from typing import Final, TypeVar

from tsched.model.errors import ConfigurationError
from tsched.model.records import dataclass
from tsched.model.secrets import masked, secret_values
from tsched.model.selector import ALL, Selector, selector
from tsched.settings import values
from tsched.settings.variables import VARIABLES, Origin, Source

T = TypeVar("T")
ENV_FILE: Final = "tinyscheduler.env"


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Every host setting, resolved. Paths are absolute; durations are seconds.

    `loop_interval`, `heartbeat`, `max_runtime` are overrides: None leaves the fleet's own figure (or, without a fleet
    repo, the built-in one). `agent_limits` overrides limits agent by agent; without a fleet repo it is all the limits
    there are. `tasks` None is the embedded queue in the state folder. `pools` empty means all. `environ` is the
    environment with the env file beneath it: what `pass_env` picks from.
    """

    base_path: Path
    env_file: Path | None
    repo: str | None = field(repr=False)
    branch: str
    state: Path
    tasks: str | None = field(repr=False)
    tasks_token: str | None = field(repr=False)  # what the task server wants to be shown
    tasks_mcp: str | None = field(repr=False)  # where agents find the task server's MCP tools
    github_on_complete: str  # what a complete run does to its GitHub issue: close, or review
    pools: Selector
    allowed_signers: Path | None
    allow_rewrite: bool
    pass_env: tuple[str, ...]
    webhook_secret: str | None = field(repr=False)
    status_token: str | None = field(repr=False)  # for commit statuses alone
    serve_token: str | None = field(repr=False)  # what `tsched serve` wants to be shown
    serve_url: str | None  # where nodes that share no folder with this host find `tsched serve`
    keep_days: int  # how long history and logs are kept
    run_log_max: int  # bytes that the log of one run may have
    agent_user: str | None  # whom agents run as, where it is not the runner's own user
    log_level: str
    log_format: str  # of what the runner prints: text or json
    dry_run: bool
    enabled: bool
    disable_blocking: bool
    loop_interval: float | None
    heartbeat: float | None
    max_runtime: float | None
    agent_limits: Mapping[str, int]
    control_file: Path
    goose_bin: str | None
    running_dir: Path
    log_dir: Path
    operator_folder: Path | None  # where `tsched init --host` put the operator's files, for the runner to keep
    recipes_dir: Path
    bin_dir: Path
    task_cache_dir: Path
    lock_file: Path
    hostname: str
    sources: Mapping[str, Source] = field(repr=False)
    notes: tuple[str, ...] = ()  # things a person should know: misspelt variables, figures that git overrules
    environ: Mapping[str, str] = field(repr=False, default_factory=dict)
    flags: Mapping[str, str] = field(repr=False, default_factory=dict)

    def reread(self) -> "Settings":
        """The same call's settings as its env file is now. Raises ConfigurationError as `load` does."""
        return load(self.flags)

    def without_figures(self) -> "Settings":
        """Without limits and durations of its own: for a host whose fleet is made of these very settings."""
        return replace(self, agent_limits={}, loop_interval=None, heartbeat=None, max_runtime=None)

    @property
    def limits_set(self) -> bool:
        """Whether limits were given at all: none is another thing than none for anybody."""
        return self.sources["agent_limits"].origin is not Origin.DEFAULT

    @property
    def installed(self) -> bool:
        """Whether this host says itself which agents it has: by a control file, or by limits (legacy mode)."""
        named = (self.sources[name].origin is not Origin.DEFAULT for name in ("agent_limits", "control_file"))
        return self.repo is None and (any(named) or self.control_file.is_file())

    @property
    def secrets(self) -> frozenset[str]:
        """What no text may show that leaves this host's own files: its tokens, and keys that agents are given."""
        names = ("TSCHED_TASKS_TOKEN", "TSCHED_STATUS_TOKEN", "TSCHED_WEBHOOK_SECRET", "TSCHED_SERVE_TOKEN")
        return secret_values({name: self.environ.get(name, "") for name in (*names, *self.pass_env)})

    @property
    def shown_repo(self) -> str:
        """The fleet repo's address without credentials, "" where none is set: for logs and people."""
        return masked(self.repo or "")


def load(
    flags: Mapping[str, str] | None = None, *, environ: Mapping[str, str] | None = None, cwd: Path | None = None
) -> Settings:
    """Settings of this host. `flags`: setting name → text as typed, for those given on the command line.

    Raises ConfigurationError, naming the variable or flag and the mend, for a bad value or an unreadable file.
    """
    flags = flags or {}
    environ = os.environ if environ is None else environ
    cwd = Path.cwd() if cwd is None else cwd
    start = _Lookup(flags=flags, environ=environ, file={})
    base = start.value("base_path", lambda text: values.path(cwd, text), cwd)
    path = start.value("env_file", lambda text: values.path(cwd, text), None)
    if path is None and (base / ENV_FILE).is_file():
        path = base / ENV_FILE
    text = ""
    if path is not None:
        from tsched.settings.envfile import LARGEST

        try:
            with path.open("rb") as opened:
                data = opened.read(LARGEST + 1)
            if len(data) > LARGEST:
                raise ConfigurationError(f"the env file {path} is larger than {LARGEST >> 20} MiB: name another")
            text = data.decode("utf-8-sig")
        except (OSError, UnicodeDecodeError) as error:
            reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
            raise ConfigurationError(f"can't read the env file {path}: {reason}. Mend it or name another") from None
    return resolve(dict(environ), text, flags, cwd=cwd, env_file=path, hostname=os.uname().nodename)


def resolve(
    environ: Mapping[str, str],
    env_file_text: str,
    flags: Mapping[str, str],
    *,
    cwd: Path,
    env_file: Path | None = None,
    hostname: str = "localhost",
) -> Settings:
    """The pure core of `load`. `cwd` is what relative flags and a missing base path stand for (absolute).

    Raises ConfigurationError as `load` does.
    """
    file: Mapping[str, str] = {}
    if env_file_text:
        from tsched.settings.envfile import parse_env_file

        file = parse_env_file(env_file_text, name=str(env_file or ENV_FILE), environ=environ)
    look = _Lookup(flags=flags, environ=environ, file=file)
    folder = env_file.parent if env_file is not None else cwd
    base_from_file = look.find("base_path")[0].origin is Origin.ENV_FILE
    base = look.value("base_path", lambda text: values.path(folder if base_from_file else cwd, text), cwd)
    look.sources["env_file"] = look.find("env_file")[0]
    repo = look.value("repo", lambda text: values.repo(base, text), None)

    def at(setting: str, default: Path) -> Path:
        return look.value(setting, lambda text: values.path(base, text), default)

    state = at("state", base / "state")
    control = state / "agent-control.json" if repo is not None else base / "docs/technical/agent-control.json"
    return Settings(
        base_path=base,
        env_file=env_file,
        repo=repo,
        branch=look.value("branch", values.branch, "main"),
        state=state,
        tasks=look.value("tasks", values.tasks, None),
        tasks_token=look.value("tasks_token", str, None),
        tasks_mcp=look.value("tasks_mcp", values.web_address, None),
        github_on_complete=look.value("github_on_complete", values.on_complete, "close"),
        pools=look.value("pools", selector, ALL),
        allowed_signers=look.value("allowed_signers", lambda text: values.path(base, text), None),
        allow_rewrite=look.value("allow_rewrite", values.switch, False),
        pass_env=look.value("pass_env", lambda text: values.words(text, values.VARIABLE, "names of variables"), ()),
        webhook_secret=look.value("webhook_secret", str, None),
        status_token=look.value("status_token", str, None),
        serve_token=look.value("serve_token", str, None),
        serve_url=look.value("serve_url", values.serve_address, None),
        keep_days=look.value("keep_days", values.days, 30),
        run_log_max=look.value("run_log_max", values.log_size, values.LOG_SIZE),
        agent_user=look.value("agent_user", str, None),
        log_level=look.value("log_level", values.level, "INFO"),
        log_format=look.value("log_format", values.log_format, "text"),
        dry_run=look.value("dry_run", values.switch, False),
        enabled=look.value("enabled", values.switch, True),
        disable_blocking=look.value("disable_blocking", values.switch, False),
        loop_interval=look.seconds("loop_interval", git=repo is not None, least=0.05),
        heartbeat=look.seconds("heartbeat", git=repo is not None),
        max_runtime=look.seconds("max_runtime", git=repo is not None),
        agent_limits=look.limits(git=repo is not None),
        control_file=at("control_file", control),
        goose_bin=look.value("goose_bin", str, None),
        running_dir=at("running_dir", state / "running"),
        log_dir=at("log_dir", state / "logs"),
        operator_folder=look.value("operator_folder", lambda text: values.path(base, text), None),
        recipes_dir=at("recipes_dir", base / "recipes"),
        bin_dir=at("bin_dir", base / "scripts"),
        task_cache_dir=at("task_cache_dir", state / "tasks"),
        lock_file=at("lock_file", state / "tinyscheduler.lock"),
        hostname=hostname,
        sources=look.sources,
        notes=tuple(_notes(look)),
        environ={**file, **environ},
        flags=flags,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Lookup:
    """Finds a setting's text in the layers and remembers which one answered. An empty value counts as not set."""

    flags: Mapping[str, str]
    environ: Mapping[str, str]
    file: Mapping[str, str]
    sources: dict[str, Source] = field(default_factory=dict)

    def find(self, setting: str) -> tuple[Source, str]:
        if self.flags.get(setting, "") != "":
            flag = {"agent_limits": "agent-limit"}.get(setting, setting.replace("_", "-"))
            return Source(origin=Origin.FLAG, name=f"--{flag}"), self.flags[setting]
        for origin, layer in ((Origin.ENVIRONMENT, self.environ), (Origin.ENV_FILE, self.file)):
            for name in VARIABLES[setting]:
                if layer.get(name, "") != "":
                    return Source(origin=origin, name=name), layer[name]
        return Source(), ""

    def value(self, setting: str, parse: Callable[[str], T], default: T) -> T:
        source, text = self.find(setting)
        self.sources[setting] = source
        if source.origin is Origin.DEFAULT:
            return default
        return _parsed(source, text, parse)

    def seconds(self, setting: str, *, git: bool, least: float = 0.001) -> float | None:
        source, text = self.find(setting)
        value = self.value(setting, lambda text: values.seconds(text, source, least), None)
        if git and source.name.startswith("TINYSCHEDULER_"):
            self.sources[setting] = Source(origin=source.origin, name=source.name, overruled=text)
            return None
        return value

    def limits(self, *, git: bool) -> Mapping[str, int]:
        """The variable's map, with the flags' agents laid over it one by one."""
        beneath = _Lookup(flags={}, environ=self.environ, file=self.file)

        def parse(text: str) -> Mapping[str, int]:
            return values.limits(text, values.NAME if git else values.OLD_NAME)

        limits: Mapping[str, int] = beneath.value("agent_limits", parse, {})
        source, text = beneath.find("agent_limits")
        if git and source.name.startswith("TINYSCHEDULER_"):
            source = Source(origin=source.origin, name=source.name, overruled=text)
            limits = {}
        over: Mapping[str, int] = {}
        if self.flags.get("agent_limits"):
            over = self.value("agent_limits", parse, {})
        if not over:
            self.sources["agent_limits"] = source
        return {**limits, **over}


def _parsed(source: Source, text: str, parse: Callable[[str], T]) -> T:
    try:
        return parse(text)
    except ValueError as error:
        raise ConfigurationError(f"{source.name} ({source.origin}) is {masked(text)!r}: {error}") from None


def _notes(look: _Lookup) -> Iterator[str]:
    """What a person should know about their settings, though it is no error."""
    for setting, source in look.sources.items():
        ours = setting == "agent_limits" and look.find("operator_folder")[1]  # the runner itself writes them there
        if source.overruled is not None and not ours:
            yield f"{source.name} is not used: the fleet repo decides {setting.replace('_', ' ')}"
    known = {name for names in VARIABLES.values() for name in names}
    for layer, where in ((look.environ, "environment"), (look.file, "env file")):
        for name in sorted(set(layer) - known):
            if name.startswith(("TSCHED_", "TINYSCHEDULER_")) and (near := _nearest(name, known)):
                yield f"{name} ({where}) is no setting: did you mean {near}?"


def _nearest(name: str, known: Collection[str]) -> str | None:
    import difflib  # for a slip alone

    return next(iter(difflib.get_close_matches(name, known, n=1, cutoff=0.88)), None)
