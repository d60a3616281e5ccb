"""A Kubernetes API server over HTTP with one node, as far as runs need it. Strict: what it does not know it refuses.

The API: what bodies may hold is what the official client's own models (made from the published OpenAPI) allow, and no
field more; paths, verbs, queries and content types are checked. Lists come in pages, watches from a version on, with
bookmarks, and with 410 where that is too old. The Job controller and the kubelet behind it do what their documents
say of a Job with one pod: they are no proof of what a cluster does.
"""

import json
import os
import re
import secrets
import signal
import subprocess
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

Object = dict[str, Any]
TOKEN = "canary-of-the-kubeconfig"
NODE = "node-1"
_PATHS = re.compile(
    r"/(?:apis/batch/v1/namespaces/(?P<jns>[a-z-]+)/(?P<jobs>jobs)|api/v1/namespaces/(?P<pns>[a-z-]+)/(?P<pods>pods|events))"
    r"(?:/(?P<name>[a-z0-9.-]+)(?P<log>/log)?)?"
)
_QUERIES = {
    ("GET", "list"): {
        *("labelSelector", "fieldSelector", "limit", "continue", "watch", "resourceVersion"),
        *("timeoutSeconds", "allowWatchBookmarks"),
    },
    ("POST", "list"): {"fieldValidation"},
    ("GET", "log"): {"container"},
}


class Refused(Exception):  # noqa: N818
    """An answer that is a Status."""

    def __init__(self, code: int, reason: str, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.status = {
            **{"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure"},
            **{"message": message, "reason": reason, "code": code},
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
        self.lose = ""  # "answer": what is created is, and nobody is told; "request": it is on its way for longer
        self.on_the_way: list[Object] = []
        self.hangs = threading.Event()
        self.node_is_up = True
        self.no_log = False
        self.wait: str | None = None  # a reason why no container starts
        self.unschedulable = ""
        self.no_pods = False
        self.processes: dict[str, subprocess.Popen[bytes]] = {}
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
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
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
                raise Refused(409, "AlreadyExists", f'jobs.batch "{name}" already exists')
            job = deepcopy(body)
            job["spec"].pop(self.drops_field, None)
            job["metadata"] |= {"uid": secrets.token_hex(8), "namespace": "agents", "creationTimestamp": now()}
            job["status"] = {}
            self.put("jobs", job, "ADDED")
            if job["spec"]["completions"] == 0:
                self.finish(job, "Complete", "CompletionsReached")
            elif not self.no_pods:
                self.make_pod(job)
            return deepcopy(self.objects["jobs", name])

    def late(self) -> None:
        """What was on its way arrives."""
        for body in self.on_the_way:
            with suppress(Refused):
                self.create(body)
        self.on_the_way.clear()

    def finish(self, job: Object, kind: str, reason: str) -> None:
        job = deepcopy(job)
        job["status"]["conditions"] = [{"type": kind, "status": "True", "reason": reason}]
        self.put("jobs", job, "MODIFIED")

    def delete_job(self, name: str, *, foreground: bool) -> None:
        with self.changed:
            job = deepcopy(self.objects["jobs", name])
            job["metadata"]["deletionTimestamp"] = now()
            if foreground:
                job["metadata"]["finalizers"] = ["foregroundDeletion"]
                self.put("jobs", job, "MODIFIED")
            else:
                self.put("jobs", job, "DELETED")
            for pod in [one for one in self.all("pods") if one["metadata"]["labels"]["job-name"] == name]:
                self.delete_pod(pod["metadata"]["name"])
            self.collect(name)

    def collect(self, name: str) -> None:
        with self.changed:
            job = self.objects.get(("jobs", name))
            pods = [one for one in self.all("pods") if one["metadata"]["labels"]["job-name"] == name]
            if job is not None and "deletionTimestamp" in job["metadata"] and not pods:
                self.put("jobs", deepcopy(job), "DELETED")

    # -- the node ----------------------------------------------------------------------------------------------------

    def make_pod(self, job: Object) -> None:
        template, name = job["spec"]["template"], job["metadata"]["name"]
        meta = deepcopy(template["metadata"])
        meta |= {"name": f"{name}-{secrets.token_hex(2)}x", "uid": secrets.token_hex(8), "creationTimestamp": now()}
        meta["labels"] = {**meta["labels"], "job-name": name}
        pod: Object = {"metadata": meta, "spec": deepcopy(template["spec"]), "status": {"phase": "Pending"}}
        if self.unschedulable:
            said = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable"}
            pod["status"]["conditions"] = [{**said, "message": self.unschedulable}]
            self.put("pods", pod, "ADDED")
            return
        pod["spec"]["nodeName"] = NODE
        self.put("pods", pod, "ADDED")
        if self.wait is not None:
            waiting = {"waiting": {"reason": self.wait, "message": "as the test wants it"}}
            self.status(meta["name"], phase="Pending", state=waiting)
        else:
            self.spawn(lambda: self.run(meta["name"]))

    def status(self, name: str, *, phase: str, state: Object, **more: object) -> None:
        with self.changed:
            if ("pods", name) not in self.objects:
                return
            pod = deepcopy(self.objects["pods", name])
            pod["status"] |= {"phase": phase, "containerStatuses": [{"name": "agent", "state": state}], **more}
            self.put("pods", pod, "MODIFIED")

    def run(self, name: str) -> None:
        """What a kubelet does with a pod: variables resolved, volumes in place, a deadline, a grace."""
        pod = deepcopy(self.objects["pods", name])
        spec, meta = pod["spec"], pod["metadata"]
        container = spec["containers"][0]
        files, work = self.root / "pods" / name, self.work(meta["annotations"]["tsched/run"])
        try:
            env = {"PATH": "/usr/local/bin:/usr/bin:/bin", **self.variables(container)}
        except KeyError as missing:
            waiting = {"reason": "CreateContainerConfigError", "message": f"secret {missing} not found"}
            self.status(name, phase="Pending", state={"waiting": waiting})
            return
        for item in spec["volumes"][0]["downwardAPI"]["items"]:
            path = files / item["path"]
            path.parent.mkdir(parents=True, exist_ok=True)
            key = re.fullmatch(r"metadata\.annotations\['(.+)'\]", item["fieldRef"]["fieldPath"])
            assert key is not None
            path.write_text(meta["annotations"][key[1]])
        work.mkdir(parents=True, exist_ok=True)

        def here(text: str) -> str:
            return text.replace("/tsched/run", str(files)).replace("/tsched/work", str(work))

        argv = [here(expand(word, env)) for word in container["command"]]
        self.logs(name).parent.mkdir(parents=True, exist_ok=True)
        began = now()
        with self.logs(name).open("wb") as log:
            try:
                process = subprocess.Popen(
                    argv, env={key: here(value) for key, value in env.items()}, cwd=work, stdout=log,
                    stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL, start_new_session=True,
                )  # fmt: skip
            except OSError as error:
                terminated = {"exitCode": 128, "reason": "StartError", "message": str(error)}
                self.over(name, {**terminated, "startedAt": began, "finishedAt": now()}, "Failed")
                return
        with self.changed:
            self.processes[name] = process
        self.status(name, phase="Running", state={"running": {"startedAt": began}}, startTime=began)
        reason = self.until_over(name, process, spec)
        if not self.node_is_up:
            return
        code = process.returncode if process.returncode >= 0 else 128 - process.returncode
        ended = {
            "exitCode": code,
            "reason": "OOMKilled" if code == 137 and not reason else "Completed" if not code else "Error",
        }
        self.over(
            name,
            {**ended, "startedAt": began, "finishedAt": now()},
            "Failed" if code or reason else "Succeeded",
            reason,
        )

    def until_over(self, name: str, process: "subprocess.Popen[bytes]", spec: Object) -> str:
        deadline = time.monotonic() + spec["activeDeadlineSeconds"]
        while process.poll() is None:
            with self.changed:
                pod = self.objects.get(("pods", name))
                gone = pod is None or "deletionTimestamp" in pod["metadata"]
            if gone or time.monotonic() > deadline:
                with suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGTERM)
                try:
                    process.wait(spec["terminationGracePeriodSeconds"])
                except subprocess.TimeoutExpired:
                    os.killpg(process.pid, signal.SIGKILL)
                    process.wait()
                return "" if gone else "DeadlineExceeded"
            with suppress(subprocess.TimeoutExpired):
                process.wait(0.02)
        return ""

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
                self.finish(
                    job,
                    *(
                        ("Complete", "CompletionsReached")
                        if phase == "Succeeded"
                        else ("Failed", "BackoffLimitExceeded")
                    ),
                )

    def delete_pod(self, name: str, *, at_once: bool = False) -> None:
        with self.changed:
            pod = deepcopy(self.objects["pods", name])
            if at_once or pod["status"]["phase"] != "Running":
                self.put("pods", pod, "DELETED")
                self.collect(pod["metadata"]["labels"]["job-name"])
            else:
                grace = pod["spec"]["terminationGracePeriodSeconds"]
                pod["metadata"] |= {"deletionTimestamp": now(grace), "deletionGracePeriodSeconds": grace}
                self.put("pods", pod, "MODIFIED")

    def lose_node(self) -> None:
        """Its kubelet is heard of no more. What ran on it is dead, and nobody knows."""
        self.node_is_up = False
        for process in self.processes.values():
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)

    def variables(self, container: Object) -> dict[str, str]:
        env: dict[str, str] = {}
        for one in container["envFrom"]:
            env |= self.secrets[one["secretRef"]["name"]]
        for one in container["env"]:
            if "value" in one:
                env[one["name"]] = expand(one["value"], env)
            else:
                of = one["valueFrom"]["secretKeyRef"]
                env[one["name"]] = self.secrets[of["name"]][of["key"]]
        return env

    def logs(self, name: str) -> Path:
        return self.root / "logs-of-pods" / f"{name}.log"


def expand(text: str, env: Mapping[str, str]) -> str:
    """`$(NAME)` is put in where there is such a variable, `$$` is `$`: what kubelets do to command and env."""
    return re.sub(
        r"\$(\$|\(([A-Za-z_][A-Za-z0-9_]*)\))",
        lambda found: "$" if found[1] == "$" else env.get(found[2], found[0]),
        text,
    )


def now(more: int = 0) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() + more))


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
            cluster.asked.append(
                f"{'WATCH' if 'watch' in query else self.command} {kind}{f' {form}' if form == 'log' else ''}"
            )
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
                self.create(cluster, text)
            case "GET", "jobs" | "pods", "list" if query.get("watch") == "true":
                self.watch(cluster, kind, query)
            case "GET", "jobs" | "pods", "list":
                self.reply(200, listed(cluster, kind, query))
            case "GET", "events", "list":
                self.reply(200, {"items": cluster.events})
            case "GET", "jobs", "one":
                self.reply(200, known(cluster, kind, name))
            case "GET", "pods", "log":
                known(cluster, kind, name)
                if cluster.no_log or not cluster.node_is_up:
                    raise Refused(500, "InternalError", "dial tcp: connection refused")
                self.text(cluster.logs(name).read_bytes())
            case "DELETE", "jobs" | "pods", "one":
                self.delete(cluster, kind, known(cluster, kind, name), text)
            case _:
                raise Refused(405, "MethodNotAllowed", "the server does not allow this method")

    def create(self, cluster: Cluster, text: bytes) -> None:
        body = validated(V1Job, text)
        if len(json.dumps(body["spec"]["template"]["metadata"].get("annotations", {}))) > 256 << 10:
            raise Refused(422, "Invalid", "metadata.annotations: Too long: may not be more than 262144 bytes")
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
        options = validated(V1DeleteOptions, text)
        if options.get("preconditions", {}).get("uid", one["metadata"]["uid"]) != one["metadata"]["uid"]:
            raise Refused(409, "Conflict", "the UID in the precondition does not match")
        name = one["metadata"]["name"]
        if kind == "jobs":
            cluster.delete_job(name, foreground=options.get("propagationPolicy") == "Foreground")
        else:
            cluster.delete_pod(name, at_once=options.get("gracePeriodSeconds") == 0)
        self.reply(200, {"kind": "Status", "status": "Success"})

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
                elif of != kind:
                    self.chunk({"type": "BOOKMARK", "object": {"metadata": {"resourceVersion": str(version)}}})
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
            raise Refused(404, "NotFound", f'{kind} "{name}" not found')
        return deepcopy(one)


def selected(one: Object, query: Mapping[str, str]) -> bool:
    wanted = [part.partition("=")[::2] for part in query["labelSelector"].split(",")]
    return all(one["metadata"]["labels"].get(key) == value for key, value in wanted)


def listed(cluster: Cluster, kind: str, query: Mapping[str, str]) -> Object:
    with cluster.changed:
        found = [one for one in cluster.all(kind) if selected(one, query)]
        start, size = int(query.get("continue", 0)), min(cluster.page, int(query["limit"]))
        meta = {"resourceVersion": str(cluster.version)}
        if start + size < len(found):
            meta["continue"] = str(start + size)
        return {"kind": "List", "metadata": meta, "items": found[start : start + size]}


@contextmanager
def cluster_at(root: Path, work: Callable[[str], Path]) -> Iterator[Cluster]:
    cluster = Cluster(root, work).up()
    try:
        yield cluster
    finally:
        cluster.close()
