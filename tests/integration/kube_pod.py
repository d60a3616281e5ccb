"""What a kubelet does with a pod's one container, done with a process of this machine."""

import os
import re
import signal
import subprocess
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

Object = dict[str, Any]
Secrets = Mapping[str, Mapping[str, str]]
Process = subprocess.Popen[bytes]


def start(pod: Object, *, files: Path, work: Path, log: Path, secrets: Secrets) -> Process:
    """Variables resolved, volumes in place: `files` is the downwardAPI's, `work` the emptyDir.

    Raises KeyError where there is no such Secret or key, OSError where there is no such program.
    """
    spec, container = pod["spec"], pod["spec"]["containers"][0]
    env = {"PATH": "/usr/local/bin:/usr/bin:/bin", **_variables(container, secrets)}
    for item in next(one for one in spec["volumes"] if "downwardAPI" in one)["downwardAPI"]["items"]:
        path = files / item["path"]
        path.parent.mkdir(parents=True, exist_ok=True)
        key = re.fullmatch(r"metadata\.annotations\['(.+)'\]", item["fieldRef"]["fieldPath"])
        assert key is not None
        path.write_text(pod["metadata"]["annotations"][key[1]])
    work.mkdir(parents=True, exist_ok=True)

    def here(text: str) -> str:
        return text.replace("/tsched/run", str(files)).replace("/tsched/work", str(work))

    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("wb") as output:
        return subprocess.Popen(
            [here(expand(word, env)) for word in container["command"]],
            env={key: here(value) for key, value in env.items()}, cwd=work, stdout=output, stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL, start_new_session=True,
        )  # fmt: skip


def until_over(process: Process, spec: Object, gone: Callable[[], bool]) -> str:
    """Wait for its end, and bring it about where its time is over or its pod is to go. Returns the pod's reason."""
    deadline = time.monotonic() + spec["activeDeadlineSeconds"]
    while process.poll() is None:
        told = gone()
        if told or time.monotonic() > deadline:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGTERM)
            try:
                process.wait(spec["terminationGracePeriodSeconds"])
            except subprocess.TimeoutExpired:
                kill(process)
                process.wait()
            return "" if told else "DeadlineExceeded"
        with suppress(subprocess.TimeoutExpired):
            process.wait(0.02)
    return ""


def kill(process: Process) -> None:
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)


def terminated(code: int, began: str, *, told: bool) -> Object:
    """The state of a container that ended, by its process's return code. `told`: its node ended it."""
    code = code if code >= 0 else 128 - code
    reason = "OOMKilled" if code == 137 and not told else "Completed" if not code else "Error"
    return {"exitCode": code, "reason": reason, "startedAt": began, "finishedAt": now()}


def status(pod: Object, phase: str, state: Object, **more: str) -> Object:
    """What a node reports of a pod whose container is in that state."""
    kind = next(iter(state))
    ready, runs = "True" if kind == "running" else "False", kind == "running"
    container = {
        **{"name": "agent", "state": state, "lastState": {}, "ready": runs, "restartCount": 0, "started": runs},
        **{"image": pod["spec"]["containers"][0]["image"], "imageID": ""},
    }
    conditions = [{"type": one, "status": ready} for one in ("Ready", "ContainersReady")]
    conditions += [{"type": one, "status": "True"} for one in ("Initialized", "PodScheduled")]
    began = pod["status"].get("startTime") or now()
    told = {"phase": phase, "hostIP": "127.0.0.1", "startTime": began, "conditions": conditions, **more}
    return {**told, "containerStatuses": [container]}


def unstartable(error: OSError, began: str) -> Object:
    """The same of one whose program is not there."""
    words = {"exitCode": 128, "reason": "StartError", "message": str(error)}
    return {**words, "startedAt": began, "finishedAt": now()}


def _variables(container: Object, secrets: Secrets) -> dict[str, str]:
    env: dict[str, str] = {}
    for one in container.get("envFrom", []):
        env |= secrets[one["secretRef"]["name"]]
    for one in container["env"]:
        if "valueFrom" in one:
            of = one["valueFrom"]["secretKeyRef"]
            env[one["name"]] = secrets[of["name"]][of["key"]]
        else:
            env[one["name"]] = expand(one.get("value", ""), env)
    return env


def expand(text: str, env: Mapping[str, str]) -> str:
    """`$(NAME)` is put in where there is such a variable, `$$` is `$`: what kubelets do to command and env."""
    return re.sub(
        r"\$(\$|\(([A-Za-z_][A-Za-z0-9_]*)\))",
        lambda found: "$" if found[1] == "$" else env.get(found[2], found[0]),
        text,
    )


def now(more: int = 0) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() + more))
