"""What is asked of an API server to learn how its answers look, and what of an answer is its shape.

The same script runs over a real API server (tests/kubernetes writes kubernetes_wire.json with it) and over the tests'
own (kube_cluster.py), whose answers have to be the same but for times, versions, names that are drawn, and words.
"""

import json
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import httpx

from tests.integration.local_runs import launch_of, shell, wait_for
from tsched.executors.kubernetes import job as jobs
from tsched.executors.kubernetes.api import _PATHS
from tsched.executors.runfolder import Host
from tsched.model.fleet import Resources
from tsched.model.placement import Engine, Kubernetes

RECORDED = Path(__file__).with_name("kubernetes_wire.json")
OWNER = "the-script"
LABELS = jobs.selector(OWNER)
JOBS, PODS = (_PATHS[kind].format(ns="agents") for kind in ("jobs", "pods"))
WAITS = "echo said; until [ -e go ]; do sleep 0.05; done; exit $(cat go)"
_WORDS = frozenset({"apiVersion", "code", "kind", "message", "phase", "reason", "status", "type"})  # said for good
# Known to newer servers alone, and done by older ones alone: the recorded one is 1.20, the tests' own plays 1.29.
_OF_ONE_VERSION = frozenset({"podReplacementPolicy", "seccomp.security.alpha.kubernetes.io/pod"})
_UNREAD = "managedFields"  # by anybody of ours; half of an answer


@dataclass(frozen=True, slots=True, kw_only=True)
class Server:
    """Whom it is asked of. `work`: a run's folder; `forget`: all history is gone; `wait`: no container starts."""

    http: httpx.Client
    work: Callable[[str], Path]
    forget: Callable[[], object]
    wait: Callable[[str], object]
    heard: dict[str, Any] = field(default_factory=dict)

    def ask(self, method: str, path: str, body: object = None, *, note: str = "", **query: str) -> Any:
        """The answer's content. `note`: the name by which the answer is kept."""
        answer = self.http.request(method, path, json=body, params=query)
        kind = answer.headers["content-type"]
        value = _read(json.loads(answer.text)) if "json" in kind else answer.text
        if note:
            self.heard[note] = {"code": answer.status_code, "content-type": kind, "body": value}
        return value

    def watch(self, path: str, version: str, *, note: str, until: str, stir: Callable[[], object] = str) -> None:
        """What is told after a version: the newest event of each type, but of a bookmark alone.

        `until`: the last event's type, and what its object's name begins with. `stir`: done once the watch has begun.
        A real server sends a bookmark once a minute, and only where it has had something to say meanwhile.
        """
        query = {"labelSelector": LABELS, "resourceVersion": version, "watch": "true"}
        query |= {"allowWatchBookmarks": "true", "timeoutSeconds": "100"}
        told: dict[str, Any] = {}
        with self.http.stream("GET", path, params=query, timeout=100) as answer:
            stir()
            for line in answer.iter_lines():
                event = _read(json.loads(line))
                name = event["object"]["metadata"].get("name", "")
                told[event["type"]] = event
                if f"{event['type']} {name}".startswith(until):
                    break
            head = {"code": answer.status_code, "content-type": answer.headers["content-type"]}
        alone = {"BOOKMARK"} if stir is not str else told.keys() - {"BOOKMARK"}
        self.heard[note] = head | {"events": {one: told[one] for one in sorted(alone)}}


def _read(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _read(one) for key, one in value.items() if key != _UNREAD}
    return [_read(one) for one in value] if isinstance(value, list) else value


def job(run_id: str, script: str = WAITS) -> dict[str, Any]:
    """A run's Job with everything in it that there may be, but a Secret and an account."""
    wanted = Kubernetes(image="agents/goose:1", node_selector=(("disk", "ssd"),), user=1000, ttl=600.0)
    launch = launch_of(
        shell(script), run_id=run_id, engine=Engine.KUBERNETES, kubernetes=wanted, stop_grace=5,
        resources=Resources(cpus=0.5, memory=1 << 28),
    )  # fmt: skip
    nowhere = Path("/nowhere")
    host = Host(
        runs=nowhere, running=nowhere, logs=nowhere, workspaces=nowhere, environ={}, pass_env=(), log_max=1,
        boot_id="b",
    )  # fmt: skip
    pinned = jobs.pin_job(launch, host, place=jobs.Place(context="", namespace="agents"), owner=OWNER)
    made: dict[str, Any] = json.loads(pinned.files["kubernetes.json"])["job"]
    return made


def play(server: Server) -> Mapping[str, Any]:
    """All of it, on a server without Jobs or pods. Returns each answer by what it is an answer to."""
    began = server.ask("GET", JOBS, labelSelector=LABELS, limit="500", note="a list of nothing")
    version = began["metadata"]["resourceVersion"]
    _creations(server)
    _a_run(server, "r-good", "0", "good")
    _a_run(server, "r-bad", "3", "bad")
    _a_stop(server)
    _a_wait(server)
    _pages(server)
    for kind, path in (("Jobs", JOBS), ("pods", PODS)):
        server.watch(path, version, note=f"a watch of {kind}", until="DELETED r-wait")
    here = server.ask("GET", JOBS, labelSelector=LABELS, limit="500")["metadata"]["resourceVersion"]
    late = partial(server.ask, "POST", JOBS, jobs.fence("r-late", OWNER))
    server.watch(JOBS, here, note="a bookmark", until="BOOKMARK", stir=late)
    _forgotten(server, version)
    return server.heard


def _creations(server: Server) -> None:
    server.ask("POST", JOBS, jobs.fence("r-fence", OWNER), note="a fence", fieldValidation="Strict")
    server.ask("POST", JOBS, jobs.fence("r-fence", OWNER), note="a name that is taken", fieldValidation="Strict")
    server.ask("POST", JOBS, jobs.probe(OWNER), note="a rehearsal", dryRun="All")
    _seen(server, "r-fence", "Complete", note="a fence that is complete")
    server.ask("GET", f"{JOBS}/nothing", note="a Job that is not there")
    server.ask("DELETE", f"{JOBS}/nothing", {"propagationPolicy": "Foreground"}, note="an end of no Job")
    server.ask("GET", f"{PODS}/nothing/log", container="agent", note="a log of no pod")


def _a_run(server: Server, run_id: str, code: str, how: str) -> None:
    server.ask("POST", JOBS, job(run_id), note=f"a {how} run's Job", fieldValidation="Strict")
    pod = _pod(server, run_id, "Running", note=f"a {how} run's pod that runs")
    (server.work(run_id) / "go").write_text(code)
    _seen(server, run_id, "Failed" if int(code) else "Complete", note=f"a {how} run's Job that is over")
    _pod(server, run_id, "Failed" if int(code) else "Succeeded", note=f"a {how} run's pod that is over")
    server.ask("GET", f"{PODS}/{pod}/log", container="agent", note=f"a {how} run's log")


def _a_stop(server: Server) -> None:
    made = server.ask("POST", JOBS, job("r-stop", f"trap '' TERM; {WAITS}"))
    pod = _pod(server, "r-stop", "Running")
    options: dict[str, object] = {"propagationPolicy": "Foreground", "preconditions": {"uid": "another"}}
    server.ask("DELETE", f"{JOBS}/r-stop", options, note="an end of another Job of that name")
    options["preconditions"] = {"uid": made["metadata"]["uid"]}
    server.ask("DELETE", f"{JOBS}/r-stop", options, note="an end")
    wait_for(lambda: "deletionTimestamp" in server.ask("GET", f"{PODS}/{pod}")["metadata"])
    _pod(server, "r-stop", "Running", note="a pod that is to go")
    server.ask("DELETE", f"{PODS}/{pod}", {"gracePeriodSeconds": 0}, note="a pod that is forgotten")
    wait_for(lambda: server.ask("GET", f"{JOBS}/r-stop").get("code") == 404)
    (server.work("r-stop") / "go").write_text("0")


def _a_wait(server: Server) -> None:
    server.wait("ImagePullBackOff")
    server.ask("POST", JOBS, job("r-wait"))
    wait_for(lambda: "ImagePullBackOff" in json.dumps(server.ask("GET", PODS, labelSelector=LABELS, limit="500")))
    pod = _pod(server, "r-wait", "Pending", note="a pod that waits")
    server.ask("GET", f"{PODS}/{pod}/log", container="agent", note="a log of who has not begun")
    server.ask("DELETE", f"{JOBS}/r-wait", {"propagationPolicy": "Foreground"})
    wait_for(lambda: server.ask("GET", f"{JOBS}/r-wait").get("code") == 404)
    server.wait("")


def _pages(server: Server) -> None:
    first = server.ask("GET", JOBS, labelSelector=LABELS, limit="2", note="a first page")
    query = {"labelSelector": LABELS, "limit": "2", "continue": first["metadata"]["continue"]}
    server.ask("GET", JOBS, None, note="a last page", **query)


def _forgotten(server: Server, version: str) -> None:
    page = server.ask("GET", JOBS, labelSelector=LABELS, limit="1")["metadata"]["continue"]
    server.ask("DELETE", f"{JOBS}/r-fence", {"propagationPolicy": "Background"}, note="an end in the background")
    server.forget()
    server.ask("GET", JOBS, labelSelector=LABELS, limit="1", note="a page of what is forgotten", **{"continue": page})
    server.watch(JOBS, version, note="a watch of what is forgotten", until="ERROR")


def _seen(server: Server, name: str, end: str, *, note: str) -> None:
    def over() -> bool:
        conditions = server.ask("GET", f"{JOBS}/{name}").get("status", {}).get("conditions", [])
        return any((one["type"], one["status"]) == (end, "True") for one in conditions)

    wait_for(over)
    server.ask("GET", f"{JOBS}/{name}", note=note)


def _pod(server: Server, run_id: str, phase: str, *, note: str = "") -> str:
    """Of a run, once it has come so far: its name."""
    query = {"labelSelector": f"{LABELS},job-name={run_id}", "limit": "500"}

    def there() -> bool:
        items = server.ask("GET", PODS, None, **query)["items"]
        return [one["status"]["phase"] for one in items] == [phase]

    wait_for(there)
    name: str = server.ask("GET", PODS, None, note=note, **query)["items"][0]["metadata"]["name"]
    return name


def recorded(name: str) -> Any:
    """A real server's answer."""
    return json.loads(RECORDED.read_text())[name]


def stable(text: str) -> str:
    """A recording in which nothing differs from one time to the next but what differs."""
    for number, uid in enumerate(dict.fromkeys(re.findall(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}", text))):
        text = text.replace(uid, f"00000000-0000-0000-0000-{number:012}")
    text = re.sub(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", "2026-01-20T10:15:00Z", text)
    text = re.sub(r'"(resourceVersion|continue)": "[^"]+"', r'"\1": "1000"', text)
    text = re.sub(r"UID in record \([0-9a-f-]+\)", "UID in record (uid)", text)
    text = re.sub(r"too old resource version: \d+ \(\d+\)", "too old resource version: 1000 (1001)", text)
    return re.sub(r"\b(r-(?:good|bad|stop|wait)|tsched)-[a-z0-9]{5}\b", r"\1-abcde", text)


def shape(value: object, key: str = "") -> object:
    """Keys, types, and the words that a program goes by."""
    if isinstance(value, dict):
        return {name: shape(one, name) for name, one in value.items() if name not in _OF_ONE_VERSION}
    if isinstance(value, list):
        return [shape(one) for one in value]
    return value if key in _WORDS else type(value).__name__


def differences(own: object, real: object, at: str = "") -> Iterator[str]:
    """In words, each with its place."""
    if isinstance(own, dict) and isinstance(real, dict):
        for key in sorted(own.keys() | real.keys()):
            if key not in own or key not in real:
                yield f"{at}.{key}: {'the own server says nothing' if key not in own else 'a real one says nothing'}"
            else:
                yield from differences(own[key], real[key], f"{at}.{key}")
    elif isinstance(own, list) and isinstance(real, list) and len(own) == len(real):
        for number, pair in enumerate(zip(own, real, strict=True)):
            yield from differences(*pair, f"{at}[{number}]")
    elif own != real:
        yield f"{at}: {own!r} instead of {real!r}"
