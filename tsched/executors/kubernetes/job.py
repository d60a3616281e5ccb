"""A run as a Job of Kubernetes: all that is pinned of it before the claim. Pure.

One object holds everything, the recipe's files among it, so a run is either there as a whole or not at all. Its name
is the run's: whoever creates an object of that name first has decided whether the run ever runs.
"""

import hashlib
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path, PurePosixPath

from tsched.executors.executor import Launch
from tsched.executors.pinned import Pinned, as_json, below_recipes, checked, task_record
from tsched.executors.runfolder import Host
from tsched.executors.runtimes import TASKS_MCP, TASKS_TOKEN, Paths, Told, arguments, environment
from tsched.model.errors import ConfigurationError
from tsched.model.fleet import Resources
from tsched.model.placement import Kubernetes
from tsched.model.units import format_size

JSON = Mapping[str, object]

RUN = "tsched/run"  # annotation of Jobs and pods: the run's id
OWNER = "tsched/runner"  # label of both: whose they are
FENCE = "tsched/fence"  # label of a Job that only takes a name, so that a late one of that name can't be made
AGENT = "agent"  # the container's name
FILES = PurePosixPath("/tsched/run")  # the recipe's files and the task, to be read
WORK = PurePosixPath("/tsched/work")  # an empty folder, the agent's own
MOST_FILES = 200 * 1024  # bytes of all of them; the API takes 256 KiB of annotations
TTL = 24 * 3600.0  # seconds that a finished Job stays where nobody takes its result
FENCED_FOR = 3600  # seconds that a name is taken: no request is on its way for longer
START_WITHIN = 300.0  # seconds that a run waits for what no waiting may bring
ONE_POD = {"podReplacementPolicy": "Failed"}  # no second pod while the first may still run
_NAME = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?")


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where a Job is: a context of the runner's kubeconfig ("": its current one) and a namespace."""

    context: str
    namespace: str


def mapping(value: object) -> JSON:
    """A JSON object, {} for anything else."""
    return value if isinstance(value, dict) else {}


def objects(value: object) -> Sequence[JSON]:
    """The objects in a JSON list."""
    return [one for one in value if isinstance(one, dict)] if isinstance(value, list) else []


def name_of(run_id: str) -> str:
    """The Job's name: the run's id, where that can name one."""
    if _NAME.fullmatch(run_id):
        return run_id
    digest = hashlib.sha256(run_id.encode()).hexdigest()[:12]
    return f"run-{digest}"


def pin_job(launch: Launch, host: Host, *, place: Place, owner: str) -> Pinned:
    """Decide everything about a run. Raises ConfigurationError where it could never start."""
    checked(launch)
    if launch.recipe.checks:
        raise ConfigurationError(
            f"{launch.recipe.path} has checks, which nobody can make in a pod: take them out, or run it elsewhere"
        )
    run, wanted = launch.run, launch.kubernetes
    if not wanted.image:
        raise ConfigurationError("no image is named: set kubernetes.image of the agent or its pool")
    files = {str(below_recipes(file.path)): file.text for file in launch.recipe.files}
    files = {f"recipe/{path}": text for path, text in files.items()}
    files["task.json"] = as_json(task_record(launch)).decode()
    if (size := sum(len(text.encode()) for text in files.values())) > MOST_FILES:
        most = format_size(MOST_FILES)
        raise ConfigurationError(
            f"{launch.recipe.path}, its sub-recipes and the task come to {size} bytes, and a pod can be given {most}"
        )
    paths = Paths(
        recipe=Path(FILES / "recipe" / below_recipes(launch.recipe.path)),
        task_file=Path(FILES / "task.json"),
        workspace=Path(WORK),
    )
    env = _environment(launch, host, paths)
    told = Told(mcp=env[TASKS_MCP], token=TASKS_TOKEN in dict(wanted.env)) if TASKS_MCP in env else None
    argv = arguments(launch.runtime, recipe=launch.recipe, task=launch.task, agent=run.agent, paths=paths, told=told)
    spec = {
        **{"run_id": run.run_id, "lease": str(host.running / f"task_{run.task_id}.json")},
        **{"link": str(host.running / f"agent_{run.agent}.task_{run.task_id}")},
        **{"heartbeat": launch.heartbeat, "max_runtime": launch.max_runtime, "stop_grace": launch.stop_grace},
        **{"checks": [], "hooks": {}, "check_limit": 0.0, "hook_limit": 0.0, "cgroup": "", "elsewhere": True},
        "lease_fields": asdict(launch.lease),
        "start_within": START_WITHIN if wanted.start_within is None else wanted.start_within,
    }
    record = {**asdict(place), "job": job(launch, argv=argv, env=env, files=files, owner=owner)}
    return Pinned(
        run=run,
        files={
            "task.json": files["task.json"].encode(),
            "spec.json": as_json(spec),
            "run.json": as_json({**asdict(run), "boot_id": host.boot_id}),
            "kubernetes.json": as_json(record),
            "lock": b"",
        },
    )


def _environment(launch: Launch, host: Host, paths: Paths) -> dict[str, str]:
    """What stands in the Job for everybody to read who may read it: so nothing of the host's, and no secret."""
    wanted = launch.kubernetes
    given = {name: "" for name, _ in wanted.env}
    if wanted.secrets:  # what is in them nobody here may know
        given |= dict.fromkeys((*launch.runtime.env, *launch.recipe.env_keys), "")
    mcp = host.environ.get(TASKS_MCP, "")
    if mcp and not re.search(r"//(localhost|127\.|\[::1\])", mcp):
        given[TASKS_MCP] = mcp
    try:
        env = environment(
            given, passed=given, runtime=launch.runtime, recipe=launch.recipe, task=launch.task, run=launch.run,
            task_file=paths.task_file,
        )  # fmt: skip
    except ConfigurationError as error:
        what = str(error).partition(": ")[0]
        raise ConfigurationError(f"{what}: name its Secret in kubernetes.env or kubernetes.secrets") from None
    return {name: value for name, value in env.items() if name != "PATH" and (name not in given or value)}


def job(
    launch: Launch, *, argv: Sequence[str], env: Mapping[str, str], files: Mapping[str, str], owner: str
) -> dict[str, object]:
    """The Job. `files`: text by path below FILES."""
    wanted, run_id = launch.kubernetes, launch.run.run_id
    texts = {f"tsched/file-{number}": text for number, text in enumerate(files.values())}
    meta = {"labels": labels(owner), "annotations": {RUN: run_id}}
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {"name": name_of(run_id), **meta},
        "spec": {
            **{"completions": 1, "parallelism": 1, "backoffLimit": 0, **ONE_POD},
            "ttlSecondsAfterFinished": math.ceil(TTL if wanted.ttl is None else wanted.ttl),
            "template": {
                "metadata": {"labels": labels(owner), "annotations": {RUN: run_id, **texts}},
                "spec": {
                    "restartPolicy": "Never",
                    # Of the pod, not of the Job: it counts from when a node has taken the run, and its kubelet holds
                    # it to that by itself, also where the node is cut off.
                    "activeDeadlineSeconds": max(1, math.ceil(launch.max_runtime)),
                    "terminationGracePeriodSeconds": max(1, math.ceil(launch.stop_grace)),
                    "enableServiceLinks": False,
                    "shareProcessNamespace": True,  # as process 1 an agent without a handler would be deaf to TERM
                    **_identity(wanted),
                    "containers": [_container(launch, argv=argv, env=env)],
                    "volumes": [
                        {"name": "run", "downwardAPI": {"items": _items(list(files), list(texts))}},
                        {"name": "work", "emptyDir": {}},
                    ],
                },
            },
        },
    }


def _items(paths: Sequence[str], texts: Sequence[str]) -> list[JSON]:
    return [
        {"path": path, "fieldRef": {"apiVersion": "v1", "fieldPath": f"metadata.annotations['{text}']"}}
        for path, text in zip(paths, texts, strict=True)
    ]


def _identity(wanted: Kubernetes) -> JSON:
    user = {} if wanted.user is None else {"runAsUser": wanted.user, "runAsNonRoot": True}
    found: dict[str, object] = {
        "automountServiceAccountToken": bool(wanted.service_account),
        "securityContext": {"seccompProfile": {"type": "RuntimeDefault"}, **user},
    }
    if wanted.service_account:
        found["serviceAccountName"] = wanted.service_account
    if wanted.node_selector:
        found["nodeSelector"] = dict(wanted.node_selector)
    if wanted.pull_secrets:
        found["imagePullSecrets"] = [{"name": name} for name in wanted.pull_secrets]
    return found


def _container(launch: Launch, *, argv: Sequence[str], env: Mapping[str, str]) -> JSON:
    wanted = launch.kubernetes
    references = ((name, one.split("/", 1)) for name, one in wanted.env)
    variables: list[JSON] = [{"name": name, "value": literal(value)} for name, value in env.items()]
    variables += [
        {"name": name, "valueFrom": {"secretKeyRef": {"name": secret, "key": key}}}
        for name, (secret, key) in references
    ]
    asked = quantities(launch.resources)
    return {
        "name": AGENT,
        "image": wanted.image,
        "command": [literal(word) for word in argv],
        "workingDir": str(WORK),
        "env": variables,
        "envFrom": [{"secretRef": {"name": name}} for name in wanted.secrets],
        "resources": {"requests": asked, "limits": asked} if asked else {},
        "securityContext": {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}},
        "volumeMounts": [
            {"name": "run", "mountPath": str(FILES), "readOnly": True},
            {"name": "work", "mountPath": str(WORK)},
        ],
    }


def literal(text: str) -> str:
    """As it is, for the kubelet, which would else put variables in for `$(NAME)`."""
    return text.replace("$", "$$")


def quantities(resources: Resources) -> dict[str, str]:
    """cpus and memory as Kubernetes writes them."""
    found = {} if resources.cpus is None else {"cpu": f"{max(1, math.ceil(resources.cpus * 1000))}m"}
    return found if resources.memory is None else {**found, "memory": str(resources.memory)}


def labels(owner: str) -> dict[str, str]:
    """What a runner's Jobs and pods are found by."""
    return {"app.kubernetes.io/managed-by": "tsched", OWNER: owner}


def selector(owner: str) -> str:
    """The same as a query."""
    return ",".join(f"{key}={value}" for key, value in labels(owner).items())


def fence(run_id: str, owner: str) -> dict[str, object]:
    """A Job that has nothing to do and takes the run's name: after it no Job of the run can be made any more.

    It has been completed as soon as it is there, without a pod, and Kubernetes removes it in time.
    """
    marks = {**labels(owner), FENCE: "true"}
    return _idle({"name": name_of(run_id), "labels": marks, "annotations": {RUN: run_id}})


def probe(owner: str) -> dict[str, object]:
    """A Job like that, never made, that asks for what only newer servers know."""
    made = _idle({"generateName": "tsched-", "labels": labels(owner)})
    return {**made, "spec": {**mapping(made["spec"]), **ONE_POD}}


def _idle(meta: Mapping[str, object]) -> dict[str, object]:
    container = {"name": AGENT, "image": "none", "command": ["true"]}
    pod = {"restartPolicy": "Never", "automountServiceAccountToken": False, "containers": [container]}
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": dict(meta),
        "spec": {
            **{"completions": 0, "parallelism": 0, "backoffLimit": 0, "ttlSecondsAfterFinished": FENCED_FOR},
            "template": {"metadata": {"labels": meta["labels"]}, "spec": pod},
        },
    }
