"""One file of pools/ → a pool or the limits as written: shape checked, defaults not resolved yet."""

from dataclasses import dataclass, field

from tsched.model.diagnostic import Diagnostic
from tsched.model.fleet import (
    DrainPolicy,
    Evidence,
    Guard,
    Hooks,
    Keep,
    Limits,
    OnDeadline,
    Resources,
    Retry,
    Runtime,
    Suspend,
    Workspace,
)
from tsched.model.placement import Engine, Kubernetes, Slurm
from tsched.model.units import from_iso, parse_size
from tsched.validate import schema
from tsched.validate.alerts import alerts_of
from tsched.validate.secrets import literal_credentials
from tsched.validate.source import Source, Value, parse
from tsched.validate.values import Mapped, items, mapping, seconds, whole

LIMITS_FILE = "pools/limits.yaml"


@dataclass(slots=True, kw_only=True)
class ParsedFile:
    """A file of pools/ by itself. `value` is None where its shape is wrong."""

    source: Source
    value: Mapped | None = None
    diagnostics: tuple[Diagnostic, ...] = field(default=())


def parse_pool_file(path: str, data: bytes) -> ParsedFile:
    """Read one file of pools/. Everything wrong with it alone is in `diagnostics`."""
    source = parse(path, data)
    if source.problems:
        return ParsedFile(source=source, diagnostics=source.problems)
    found = [*_kind(path, source), *literal_credentials(source, source.value)]
    if not any(one.code == "TS312" for one in found):
        found += schema.check("limits" if path == LIMITS_FILE else "pool", source, source.value)
    value = source.value if isinstance(source.value, dict) else None
    if value is not None and not found:
        found += _times(source, value)
    return ParsedFile(source=source, value=None if found else value, diagnostics=tuple(found))


def _kind(path: str, source: Source) -> list[Diagnostic]:
    given = source.value.get("kind") if isinstance(source.value, dict) else None
    wanted = "Limits" if path == LIMITS_FILE else "Pool"
    if given not in ("Limits", "Pool") or given == wanted:
        return []
    line, column = source.place(["kind"])
    message = f"The kind is {given}, but {path} may only be a {wanted}."
    mend = "Move it to pools/limits.yaml." if given == "Limits" else "Move it to a file of its own under pools/."
    return [Diagnostic(path=path, line=line, column=column, code="TS312", message=message, mend=mend)]


def _times(source: Source, value: Mapped) -> list[Diagnostic]:
    """A time stamp of the right form that is no time (a 13th month)."""
    suspend = value.get("suspend")
    until = suspend.get("until") if isinstance(suspend, dict) else None
    try:
        if until is not None:
            from_iso(str(until))
    except ValueError:
        line, column = source.place(["suspend", "until"])
        message = f"suspend.until is {until}, which is no time."
        mend = "Use RFC 3339, such as 2026-12-01T08:00:00Z."
        return [Diagnostic(path=source.name, line=line, column=column, code="TS204", message=message, mend=mend)]
    return []


def limits_of(value: Mapped) -> Limits:
    """The fleet-wide settings of a checked limits.yaml ({}: the built-in ones)."""
    base = Limits()
    retry = mapping(value.get("retry"))
    return Limits(
        max_running=None if "max_running" not in value else whole(value["max_running"], 0),
        spawn_per_cycle=None if "spawn_per_cycle" not in value else whole(value["spawn_per_cycle"], 1),
        loop_interval=seconds(value.get("loop_interval"), base.loop_interval),
        heartbeat=seconds(value.get("heartbeat"), base.heartbeat),
        max_runtime=seconds(value.get("max_runtime"), base.max_runtime),
        stall=seconds(value.get("stall"), base.stall),
        stop_grace=seconds(value.get("stop_grace"), base.stop_grace),
        resources=resources_of(mapping(value.get("resources"))),
        executor=Engine(str(value.get("executor", base.executor))),
        slurm=slurm_of(mapping(value.get("slurm"))),
        kubernetes=kubernetes_of(mapping(value.get("kubernetes"))),
        retry=Retry(
            attempts=whole(retry.get("attempts"), base.retry.attempts),
            backoff=seconds(retry.get("backoff"), base.retry.backoff),
            max_backoff=seconds(retry.get("max_backoff"), base.retry.max_backoff),
        ),
        guard=_guard(mapping(value.get("guard")).get("max_agents_removed")),
        runtimes={name: _runtime(name, mapping(one)) for name, one in mapping(value.get("runtimes")).items()},
        alerts=alerts_of(mapping(value.get("alerts"))),
    )


def _guard(value: Value) -> Guard:
    if isinstance(value, str):
        return Guard(percent=int(value.removesuffix("%")))
    return Guard() if value is None else Guard(percent=None, agents=whole(value, 0))


def _runtime(name: str, value: Mapped) -> Runtime:
    return Runtime(
        name=name,
        argv=tuple(str(word) for word in items(value.get("argv"))),
        env=tuple(str(word) for word in items(value.get("env"))),
        evidence=Evidence(str(value.get("evidence", "task"))),
    )


def resources_of(value: Mapped) -> Resources:
    """`resources:`, each key optional."""
    cpus = value.get("cpus")
    sizes = {key: parse_size(str(value[key])) for key in ("memory", "file_size") if key in value}
    counts = {key: whole(value[key], 1) for key in ("processes", "open_files") if key in value}
    return Resources(cpus=float(cpus) if isinstance(cpus, int | float) else None, **sizes, **counts)


def slurm_of(value: Mapped) -> Slurm:
    """`slurm:`, each key optional."""
    words = {key: str(one) for key, one in value.items() if key not in ("time", "shared")}
    shared = value["shared"] is True if "shared" in value else None
    return Slurm(**words, time=seconds(value["time"], 0) if "time" in value else None, shared=shared)


def kubernetes_of(value: Mapped) -> Kubernetes:
    """`kubernetes:`, each key optional."""
    given = ((name, mapping(one)) for name, one in mapping(value.get("env")).items())
    return Kubernetes(
        image=str(value.get("image", "")),
        context=str(value.get("context", "")),
        namespace=str(value.get("namespace", "")),
        service_account=str(value.get("service_account", "")),
        user=whole(value["user"], 1) if "user" in value else None,
        node_selector=tuple(sorted((key, str(one)) for key, one in mapping(value.get("node_selector")).items())),
        secrets=tuple(str(one) for one in items(value.get("secrets"))),
        env=tuple(sorted((name, f"{one['name']}/{one['key']}") for name, one in given)),
        pull_secrets=tuple(str(one) for one in items(value.get("pull_secrets"))),
        start_within=seconds(value["start_within"], 0) if "start_within" in value else None,
        ttl=seconds(value["ttl"], 0) if "ttl" in value else None,
    )


def drain_of(value: Mapped) -> DrainPolicy:
    """A pool's drain policy, each key optional."""
    base = DrainPolicy()
    return DrainPolicy(
        deadline=seconds(value.get("deadline"), base.deadline),
        on_deadline=OnDeadline(str(value.get("on_deadline", base.on_deadline))),
    )


def suspend_of(value: Value) -> Suspend | None:
    """`suspend:` as a bool or {until, reason}."""
    if isinstance(value, dict):
        until = value.get("until")
        return Suspend(until=None if until is None else from_iso(str(until)), reason=str(value.get("reason", "")))
    return Suspend() if value is True else None


def workspace_of(value: Value) -> Workspace | None:
    """`workspace:`, None where the pool has none."""
    if not isinstance(value, dict):
        return None
    base = Workspace(repo="")
    return Workspace(
        repo=str(value["repo"]),
        ref=str(value.get("ref", base.ref)),
        keep=Keep(str(value.get("keep", base.keep))),
        hooks=_hooks(mapping(value.get("hooks"))),
    )


def _hooks(value: Mapped) -> Hooks:
    scripts = {name: str(script) for name, script in value.items() if name != "timeout"}
    return Hooks(**scripts, timeout=seconds(value.get("timeout"), Hooks().timeout))
