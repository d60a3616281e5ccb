"""A Kubernetes API server over HTTP with one node, as far as runs need it. Strict: what it does not know it refuses.

The API: what bodies may hold is what the official client's own models (made from the published OpenAPI) allow, and no
field more; paths, verbs, queries and content types are checked. Lists come in pages, watches from a version on, with
bookmarks, and with 410 where that is too old. The Job controller and the kubelet behind it do what their documents
say of a Job with one pod: they are no proof of what a cluster does.
"""

import json
import re
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from copy import deepcopy
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from kubernetes.client.models.v1_delete_options import V1DeleteOptions
from kubernetes.client.models.v1_job import V1Job
from pydantic import ValidationError

from tests.integration import kube_objects, kube_pod
from tests.integration.kube_objects import VERSIONS, Refused, in_list, missing, named
from tests.integration.kube_pod import Object, Process, now

TOKEN = "canary-of-the-kubeconfig"
NODE = "node-1"
TOO_OLD = (
    "The provided continue parameter is too old to display a consistent list result. You can start a new list "
    "without the continue parameter, or use the continue token in this response to retrieve the remainder of the "
    "results. Continuing with the provided token results in an inconsistent list - objects that were created, "
    "modified, or deleted between the time the first chunk was returned and now may show up in the list."
)
_PATHS = re.compile(
    r"/(?:apis/batch/v1/namespaces/(?P<jns>[a-z-]+)/(?P<jobs>jobs)|api/v1/namespaces/(?P<pns>[a-z-]+)/(?P<pods>pods|events))"
    r"(?:/(?P<name>[a-z0-9.-]+)(?P<log>/log)?)?"
)
_QUERIES = {
    ("GET", "list"): {
        *("labelSelector", "fieldSelector", "limit", "continue", "watch", "resourceVersion"),
        *("timeoutSeconds", "allowWatchBookmarks"),
    },
    ("POST", "list"): {"fieldValidation", "dryRun"},
    ("GET", "log"): {"container"},
}


class Cluster:
    """One namespace, `agents`, one node. `work`: the folder that a run's emptyDir is, by its run id."""

    def __init__(self, root: Path, work: Callable[[str], Path]) -> None:
        self.root, self.work = root, work
        root.mkdir(exist_ok=True)
        self.changed = threading.Condition(threading.RLock())
        self.objects: dict[tuple[str, str], Object] = {}  # by kind and name
        self.history: list[tuple[int, str, str, Object]] = []  # version, kind, type, object
        self.version, self.oldest = 1000, 0
        self.asked: list[str] = []  # each request: verb, kind and what it was about
        self.secrets: dict[str, dict[str, str]] = {}
        self.events: list[Object] = []
        self.drops_field = ""  # of a Job's spec, as an older server does
        self.refuse: Refused | None = None  # the next creations
        # "answer": what is created is, and nobody is told; "request": it is on its way for longer; "rehearsal": that
        self.lose = ""
        self.on_the_way: list[Object] = []
        self.hangs = threading.Event()
        self.node_is_up = True
        self.no_log = False
        self.wait: str | None = None  # a reason why no container starts
        self.unschedulable = ""
        self.no_pods = False
        self.processes: dict[str, Process] = {}
        self.page = 2  # at most so many objects of one answer, whatever is asked for
        self.server: _Server | None = None
        self.threads: list[threading.Thread] = []
        self.port = 0

    # -- the server --------------------------------------------------------------------------------------------------

    def up(self) -> "Cluster":
        self.server = _Server(("127.0.0.1", self.port), _Handler)
        self.server.cluster = self
        self.port = self.server.server_address[1]
        self.spawn(lambda: self.server.serve_forever(0.02))  # type: ignore[union-attr]
        return self

    def down(self) -> None:
        """Nobody listens any more, and watches end."""
        assert self.server is not None
        self.server.stopped = True
        with self.changed:
            self.changed.notify_all()
        self.server.shutdown()
        self.server.server_close()
        self.server = None

    def close(self) -> None:
        self.hangs.clear()
        for process in self.processes.values():
            kube_pod.kill(process)
        if self.server is not None:
            self.down()
        for thread in self.threads:
            thread.join(10)

    def spawn(self, what: Callable[[], object]) -> None:
        thread = threading.Thread(target=what, daemon=True)
        self.threads.append(thread)
        thread.start()

    def kubeconfig(self) -> Path:
        path = self.root / "kubeconfig"
        named = {"cluster": "here", "user": "runner", "namespace": "agents"}
        path.write_text(
            json.dumps(
                {
                    **{"apiVersion": "v1", "kind": "Config", "current-context": "here"},
                    "clusters": [{"name": "here", "cluster": {"server": f"http://127.0.0.1:{self.port}"}}],
                    "users": [{"name": "runner", "user": {"token": TOKEN}}],
                    "contexts": [{"name": "here", "context": named}],
                }
            )
        )
        return path

    # -- objects -----------------------------------------------------------------------------------------------------

    def put(self, kind: str, one: Object, change: str) -> None:
        with self.changed:
            self.version += 1
            name = one["metadata"]["name"]
            one["metadata"]["resourceVersion"] = str(self.version)
            if change == "DELETED":
                self.objects.pop((kind, name), None)
            else:
                self.objects[kind, name] = one
            self.history.append((self.version, kind, change, deepcopy(one)))
            self.changed.notify_all()

    def all(self, kind: str) -> list[Object]:
        with self.changed:
            return [deepcopy(one) for (of, _), one in sorted(self.objects.items()) if of == kind]

    def forget_history(self) -> None:
        """As etcd compacts it; and every watch is broken off."""
        with self.changed:
            self.version += 1
            self.oldest = self.version
            self.changed.notify_all()

    def create(self, body: Object) -> Object:
        with self.changed:
            name = body["metadata"]["name"]
            if ("jobs", name) in self.objects:
                raise Refused(
                    409, "AlreadyExists", f'jobs.batch "{name}" already exists', details=named("jobs", name)
                )
            job = self.seen(body)
            self.put("jobs", job, "ADDED")
            if job["spec"]["completions"] == 0:
                self.finish(job, "Complete")
            elif not self.no_pods:
                self.make_pod(job)
            return job

    def seen(self, body: Object) -> Object:
        """A new Job, as far as the server understands it."""
        job = kube_objects.new_job(body)
        job["spec"].pop(self.drops_field, None)
        return job

    def late(self) -> None:
        """What was on its way arrives."""
        for body in self.on_the_way:
            with suppress(Refused):
                self.create(body)
        self.on_the_way.clear()

    def finish(self, job: Object, kind: str) -> None:
        job = deepcopy(job)
        end = kube_objects.condition(kind, "BackoffLimitExceeded" if kind == "Failed" else "")
        status = {**job["status"], "conditions": [end], "startTime": job["status"].get("startTime", now())}
        status.pop("active", None)
        if kind == "Complete":
            status["completionTime"] = now()
        if job["spec"]["completions"]:
            status["succeeded" if kind == "Complete" else "failed"] = 1
        job["status"] = status
        self.put("jobs", job, "MODIFIED")

    def delete_job(self, name: str, *, foreground: bool) -> Object:
        with self.changed:
            job = deepcopy(self.objects["jobs", name])
            job["metadata"] |= {"deletionTimestamp": now(), "deletionGracePeriodSeconds": 0}
            if foreground:
                job["metadata"]["finalizers"] = ["foregroundDeletion"]
                self.put("jobs", job, "MODIFIED")
            else:
                self.put("jobs", job, "DELETED")
            for pod in [one for one in self.all("pods") if one["metadata"]["labels"]["job-name"] == name]:
                self.delete_pod(pod["metadata"]["name"])
            self.collect(name)
            return job

    def collect(self, name: str) -> None:
        with self.changed:
            job = self.objects.get(("jobs", name))
            pods = [one for one in self.all("pods") if one["metadata"]["labels"]["job-name"] == name]
            if job is not None and "deletionTimestamp" in job["metadata"] and not pods:
                job = deepcopy(job)
                job["status"].pop("active", None)
                self.put("jobs", job, "MODIFIED")
                self.put("jobs", deepcopy(job), "DELETED")

    # -- the node ----------------------------------------------------------------------------------------------------

    def make_pod(self, job: Object) -> None:
        pod = kube_objects.new_pod(job)
        name = pod["metadata"]["name"]
        active = deepcopy(job)
        active["status"] = {"startTime": now(), "active": 1}
        self.put("jobs", active, "MODIFIED")
        if self.unschedulable:
            said = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable"}
            pod["status"]["conditions"] = [{**said, "message": self.unschedulable}]
            self.put("pods", pod, "ADDED")
            return
        self.put("pods", pod, "ADDED")
        pod = deepcopy(pod)
        pod["spec"]["nodeName"] = NODE
        self.put("pods", pod, "MODIFIED")
        if self.wait is not None:
            waiting = {"waiting": {"reason": self.wait, "message": "as the test wants it"}}
            self.status(name, phase="Pending", state=waiting)
        else:
            self.spawn(lambda: self.run(name))

    def status(self, name: str, *, phase: str, state: Object, **more: str) -> None:
        with self.changed:
            if ("pods", name) not in self.objects:
                return
            pod = deepcopy(self.objects["pods", name])
            pod["status"] |= kube_pod.status(pod, phase, state, **more)
            for one in pod["status"]["conditions"]:
                one |= {"lastProbeTime": None, "lastTransitionTime": None}
            pod["status"]["conditions"][-1]["lastTransitionTime"] = pod["status"]["startTime"]
            self.put("pods", pod, "MODIFIED")

    def run(self, name: str) -> None:
        pod = deepcopy(self.objects["pods", name])
        spec, work, began = pod["spec"], self.work(pod["metadata"]["annotations"]["tsched/run"]), now()
        try:
            process = kube_pod.start(
                pod, files=self.root / "pods" / name, work=work, log=self.logs(name), secrets=self.secrets
            )
        except KeyError as missing:
            waiting = {"reason": "CreateContainerConfigError", "message": f"secret {missing} not found"}
            self.status(name, phase="Pending", state={"waiting": waiting})
            return
        except OSError as error:
            self.over(name, kube_pod.unstartable(error, began), "Failed")
            return
        with self.changed:
            self.processes[name] = process
        self.status(name, phase="Running", state={"running": {"startedAt": began}})
        reason = kube_pod.until_over(process, spec, lambda: self.going(name))
        if self.node_is_up:
            ended = kube_pod.terminated(process.returncode, began, told=bool(reason))
            self.over(name, ended, "Failed" if ended["exitCode"] or reason else "Succeeded", reason)

    def going(self, name: str) -> bool:
        with self.changed:
            pod = self.objects.get(("pods", name))
            return pod is None or "deletionTimestamp" in pod["metadata"]

    def over(self, name: str, ended: Object, phase: str, reason: str = "") -> None:
        more = {"reason": reason} if reason else {}
        self.status(name, phase=phase, state={"terminated": ended}, **more)
        with self.changed:
            pod = self.objects.get(("pods", name))
            if pod is None:
                return
            job = self.objects.get(("jobs", pod["metadata"]["labels"]["job-name"]))
            if "deletionTimestamp" in pod["metadata"]:
                self.put("pods", deepcopy(pod), "DELETED")
                self.collect(pod["metadata"]["labels"]["job-name"])
            elif job is not None:
                self.finish(job, "Complete" if phase == "Succeeded" else "Failed")

    def delete_pod(self, name: str, *, at_once: bool = False) -> Object:
        """At once where no node has it, or has done with it; else its node is told, and takes it away."""
        with self.changed:
            pod = deepcopy(self.objects["pods", name])
            over = "nodeName" not in pod["spec"] or pod["status"]["phase"] in ("Succeeded", "Failed")
            grace = 0 if at_once or over else pod["spec"]["terminationGracePeriodSeconds"]
            pod["metadata"] |= {"deletionTimestamp": now(grace), "deletionGracePeriodSeconds": grace}
            if grace:
                self.put("pods", pod, "MODIFIED")
            if not grace or self.wait is not None:
                pod = deepcopy(pod)
                self.put("pods", pod, "DELETED")
                self.collect(pod["metadata"]["labels"]["job-name"])
            return pod

    def lose_node(self) -> None:
        """Its kubelet is heard of no more. What ran on it is dead, and nobody knows."""
        self.node_is_up = False
        for process in self.processes.values():
            kube_pod.kill(process)

    def logs(self, name: str) -> Path:
        return self.root / "logs-of-pods" / f"{name}.log"


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    allow_reuse_address = True
    cluster: Cluster
    stopped = False

    def handle_error(self, request: object, client_address: object) -> None:
        """Clients that hang up are no news."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Server

    def log_message(self, format: str, *args: object) -> None:
        pass

    def answer(self) -> None:
        cluster = self.server.cluster
        while cluster.hangs.is_set() and not self.server.stopped:
            time.sleep(0.01)
        length = int(self.headers.get("Content-Length") or 0)
        text = self.rfile.read(length)
        try:
            url = urlsplit(self.path)
            query = dict(parse_qsl(url.query, keep_blank_values=True, strict_parsing=bool(url.query)))
            place = _PATHS.fullmatch(url.path)
            if self.headers.get("Authorization") != f"Bearer {TOKEN}":
                raise Refused(401, "Unauthorized", "Unauthorized")
            if place is None:
                raise Refused(404, "NotFound", "the server could not find the requested resource")
            kind = place["jobs"] or place["pods"]
            form = "log" if place["log"] else "one" if place["name"] else "list"
            self.check(form, query, text)
            if (place["jns"] or place["pns"]) != "agents":
                raise Refused(404, "NotFound", "namespaces not found")
            verb = "WATCH" if "watch" in query else "DRY" if "dryRun" in query else self.command
            cluster.asked.append(f"{verb} {kind}{f' {form}' if form == 'log' else ''}")
            self.route(cluster, kind, form, place["name"] or "", query, text)
        except Refused as refused:
            self.reply(refused.code, refused.status)

    do_GET = do_POST = do_DELETE = do_PUT = do_PATCH = answer  # noqa: N815  # as http.server calls them

    def check(self, form: str, query: Mapping[str, str], text: bytes) -> None:
        if unknown := query.keys() - _QUERIES.get((self.command, form), set()):
            raise Refused(400, "BadRequest", f"unknown queries {unknown}")
        if "json" not in self.headers.get("Accept", ""):
            raise Refused(406, "NotAcceptable", "only application/json is to be had")
        if text and self.headers.get("Content-Type") != "application/json":
            raise Refused(415, "UnsupportedMediaType", "the body of the request was in an unknown format")

    def route(self, cluster: Cluster, kind: str, form: str, name: str, query: Mapping[str, str], text: bytes) -> None:
        match self.command, kind, form:
            case "POST", "jobs", "list":
                self.create(cluster, text, dry=query.get("dryRun") == "All")
            case "GET", "jobs" | "pods", "list" if query.get("watch") == "true":
                self.watch(cluster, kind, query)
            case "GET", "jobs" | "pods", "list":
                self.reply(200, listed(cluster, kind, query))
            case "GET", "events", "list":
                self.reply(200, {"items": cluster.events})
            case "GET", "jobs" | "pods", "one":
                self.reply(200, known(cluster, kind, name))
            case "GET", "pods", "log":
                pod = known(cluster, kind, name)
                if (
                    not pod["status"].get("containerStatuses")
                    or "waiting" in pod["status"]["containerStatuses"][0]["state"]
                ):
                    raise Refused(400, "BadRequest", "the container is waiting to start")
                if cluster.no_log or not cluster.node_is_up:
                    raise Refused(500, "InternalError", "dial tcp: connection refused")
                self.text(cluster.logs(name).read_bytes())
            case "DELETE", "jobs" | "pods", "one":
                self.delete(cluster, kind, known(cluster, kind, name), text)
            case _:
                raise Refused(405, "MethodNotAllowed", "the server does not allow this method")

    def create(self, cluster: Cluster, text: bytes, *, dry: bool) -> None:
        body = validated(V1Job, text)
        if len(json.dumps(body["spec"]["template"]["metadata"].get("annotations", {}))) > 256 << 10:
            raise Refused(422, "Invalid", "metadata.annotations: Too long: may not be more than 262144 bytes")
        if dry:
            self.close_connection = cluster.lose == "rehearsal"
            if cluster.lose != "rehearsal":
                self.reply(201, cluster.seen(body))
            return
        if cluster.refuse is not None:
            raise cluster.refuse
        if cluster.lose == "request":
            cluster.on_the_way.append(body)
            self.close_connection = True
            return
        made = cluster.create(body)
        if cluster.lose == "answer":
            self.close_connection = True
            return
        self.reply(201, made)

    def delete(self, cluster: Cluster, kind: str, one: Object, text: bytes) -> None:
        options, meta = validated(V1DeleteOptions, text), one["metadata"]
        if (wanted := options.get("preconditions", {}).get("uid", meta["uid"])) != meta["uid"]:
            raise kube_objects.another(kind, meta["name"], wanted=wanted, uid=meta["uid"])
        if kind == "pods":
            self.reply(200, cluster.delete_pod(meta["name"], at_once=options.get("gracePeriodSeconds") == 0))
        elif options.get("propagationPolicy") == "Foreground":
            self.reply(200, cluster.delete_job(meta["name"], foreground=True))
        else:
            cluster.delete_job(meta["name"], foreground=False)
            self.reply(200, kube_objects.gone(kind, meta["name"], meta["uid"]))

    def watch(self, cluster: Cluster, kind: str, query: Mapping[str, str]) -> None:
        at = int(query["resourceVersion"])
        ends = time.monotonic() + int(query["timeoutSeconds"])
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        while not self.server.stopped and time.monotonic() < ends:
            with cluster.changed:
                if at < cluster.oldest:
                    gone = Refused(410, "Expired", f"too old resource version: {at} ({cluster.oldest})")
                    self.chunk({"type": "ERROR", "object": gone.status})
                    break
                news = [one for one in cluster.history if one[0] > at]
                if not news:
                    cluster.changed.wait(0.05)
            for version, of, change, one in news:
                at = version
                if of == kind and selected(one, query):
                    self.chunk({"type": change, "object": one})
            if news:
                self.chunk({"type": "BOOKMARK", "object": kube_objects.bookmark(kind, at)})
        self.wfile.write(b"0\r\n\r\n")
        self.close_connection = True

    def chunk(self, event: Object) -> None:
        data = json.dumps(event).encode() + b"\n"
        for piece in (data[:7], data[7:]):  # events don't come by whole chunks
            self.wfile.write(f"{len(piece):x}\r\n".encode() + piece + b"\r\n")
        self.wfile.flush()

    def reply(self, code: int, value: Object) -> None:
        self.text(json.dumps(value).encode(), code=code, kind="application/json")

    def text(self, data: bytes, *, code: int = 200, kind: str = "text/plain") -> None:
        self.send_response(code)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)


def validated(model: Any, text: bytes) -> Object:
    try:
        model.model_validate_json(text, strict=True, extra="forbid")
    except ValidationError as error:
        raise Refused(400, "BadRequest", f"strict decoding error: {error}") from None
    body: Object = json.loads(text)
    return body


def known(cluster: Cluster, kind: str, name: str) -> Object:
    with cluster.changed:
        if (one := cluster.objects.get((kind, name))) is None:
            raise missing(kind, name)
        return deepcopy(one)


def selected(one: Object, query: Mapping[str, str]) -> bool:
    wanted = [part.partition("=")[::2] for part in query["labelSelector"].split(",")]
    return all(one["metadata"]["labels"].get(key) == value for key, value in wanted)


def listed(cluster: Cluster, kind: str, query: Mapping[str, str]) -> Object:
    with cluster.changed:
        found = [one for one in cluster.all(kind) if selected(one, query)]
        version, _, start = query.get("continue", f"{cluster.version}:0").partition(":")
        if int(version) < cluster.oldest:
            raise Refused(410, "Expired", TOO_OLD, meta={"continue": f"{cluster.version}:{start}"})
        end = int(start) + min(cluster.page, int(query["limit"]))
        meta = {"resourceVersion": version} | ({"continue": f"{version}:{end}"} if end < len(found) else {})
        api, name = VERSIONS[kind]
        items = [in_list(one) for one in found[int(start) : end]]
        return {"kind": f"{name}List", "apiVersion": api, "metadata": meta, "items": items}


@contextmanager
def cluster_at(root: Path, work: Callable[[str], Path]) -> Iterator[Cluster]:
    cluster = Cluster(root, work).up()
    try:
        yield cluster
    finally:
        cluster.close()
