"""A node without a kubelet: binds the pods of a real API server, runs their containers as processes, reports on them.

What it reports goes through the API's own subresources (binding, status) and has the fields of a kubelet's; logs are
had from it as from a kubelet, over TLS, through the API server. It is no proof of what a kubelet does.
"""

import json
import ssl
import threading
import time
from base64 import b64decode
from collections.abc import Callable
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import httpx

from tests.integration import kube_pod
from tests.integration.kube_pod import Object, Process, now
from tests.kubernetes.control import ADMIN, NAMESPACE, Control

NAME = "node-1"
PODS = f"/api/v1/namespaces/{NAMESPACE}/pods"
MERGE = {"Content-Type": "application/strategic-merge-patch+json"}
MEMORY = 4 << 30
LABELS = {"kubernetes.io/hostname": NAME, "disk": "ssd"}


class Node:
    """`work`: the folder that a run's emptyDir is, by its run id."""

    def __init__(self, control: Control, root: Path) -> None:
        self.control, self.root = control, root
        self.work: Callable[[str], Path] = lambda run_id: root / "work" / run_id
        self.wait = ""  # a reason why no container starts
        self.up, self.open = True, True
        self.mute = False  # it gives no log
        self.processes: dict[str, Process] = {}  # by pod
        self._pods: dict[str, Object] = {}  # as the watch tells
        self._taken: set[str] = set()  # by uid: those that a thread of this node runs
        self._evicted: set[str] = set()
        self._lock = threading.RLock()
        self._threads: list[threading.Thread] = []
        context = ssl.create_default_context(cafile=str(control.cert))
        self._http = httpx.Client(
            base_url=control.address, verify=context, headers={"Authorization": f"Bearer {ADMIN}"}, timeout=20.0
        )
        self._server = _Kubelet(("127.0.0.1", 0), _Handler)
        self._server.node = self
        served = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        served.load_cert_chain(control.cert, control.key)
        self._server.socket = served.wrap_socket(self._server.socket, server_side=True)

    # -- the node ----------------------------------------------------------------------------------------------------

    def start(self) -> None:
        self._send("POST", "/api/v1/nodes", {"metadata": {"name": NAME, "labels": LABELS}})
        for job in (lambda: self._server.serve_forever(0.05), self._beat, self._follow):
            self._spawn(job)

    def close(self) -> None:
        self.open = False
        for process in self.processes.values():
            kube_pod.kill(process)
        self._server.shutdown()
        self._server.server_close()
        for thread in self._threads:
            thread.join(10)
        self._http.close()

    def lose(self) -> None:
        """It is heard of no more. What ran on it is dead, and nobody knows."""
        self.up = False
        for process in self.processes.values():
            kube_pod.kill(process)

    def revive(self) -> None:
        """As before any test: up, and nothing of a test's."""
        self.up, self.wait, self.mute = True, "", False
        for process in self.processes.values():
            kube_pod.kill(process)
            process.wait()
        self.processes.clear()

    def log(self, pod: str) -> Path:
        return self.root / "logs" / f"{pod}.log"

    def evict(self, pod: str) -> None:
        """It runs out of memory, and this pod has to go: a kubelet's own doing, not the API's eviction."""
        self._evicted.add(pod)
        kube_pod.kill(self.processes[pod])

    def _spawn(self, what: Callable[[], object]) -> None:
        thread = threading.Thread(target=what, daemon=True)
        self._threads = [one for one in self._threads if one.is_alive()]
        self._threads.append(thread)
        thread.start()

    def _beat(self) -> None:
        while self.open:
            if self.up:
                self._send("PATCH", f"/api/v1/nodes/{NAME}/status", {"status": self._status()}, MERGE)
            time.sleep(1)

    def _status(self) -> Object:
        room = {"cpu": "4", "memory": str(MEMORY), "pods": "100"}
        ready = {"type": "Ready", "status": "True", "reason": "KubeletReady", "lastHeartbeatTime": now()}
        return {
            **{"capacity": room, "allocatable": room, "conditions": [ready]},
            "addresses": [{"type": "InternalIP", "address": "127.0.0.1"}],
            "daemonEndpoints": {"kubeletEndpoint": {"Port": self._server.server_address[1]}},
        }

    def _send(self, method: str, path: str, body: Object, headers: dict[str, str] | None = None) -> int:
        """Sent until there is an answer: a kubelet outlives its API server. Returns its status, 0 for none."""
        while self.open:
            try:
                return self._http.request(method, path, json=body, headers=headers).status_code
            except httpx.HTTPError:
                time.sleep(0.2)
        return 0

    # -- its pods ----------------------------------------------------------------------------------------------------

    def _follow(self) -> None:
        """A list, then a watch, and again."""
        while self.open:
            with suppress(httpx.HTTPError, ValueError, KeyError):
                found = self._http.get(PODS).json()
                with self._lock:
                    self._pods = {one["metadata"]["name"]: one for one in found["items"]}
                for one in found["items"]:
                    self._take(one)
                query = {"watch": "true", "timeoutSeconds": "60"}
                query["resourceVersion"] = found["metadata"]["resourceVersion"]
                with self._http.stream("GET", PODS, params=query) as events:
                    for line in events.iter_lines():
                        self._hear(json.loads(line))
            time.sleep(0.1)

    def _hear(self, event: Object) -> None:
        pod = event["object"]
        with self._lock:
            if event["type"] == "DELETED":
                self._pods.pop(pod["metadata"]["name"], None)
                return
            self._pods[pod["metadata"]["name"]] = pod
        self._take(pod)

    def _take(self, pod: Object) -> None:
        """The scheduler's part, and what a kubelet does of its own accord."""
        name, uid = pod["metadata"]["name"], pod["metadata"]["uid"]
        if not self.up:
            return
        if not pod["spec"].get("nodeName"):
            self._schedule(pod)
        elif pod["status"]["phase"] in ("Succeeded", "Failed"):
            self._leave(name)
        elif uid not in self._taken:
            self._taken.add(uid)
            self._spawn(lambda: self._run(pod))

    def _schedule(self, pod: Object) -> None:
        name, spec = pod["metadata"]["name"], pod["spec"]
        asked = spec["containers"][0].get("resources", {}).get("requests", {})
        words = ""
        if any(LABELS.get(key) != value for key, value in spec.get("nodeSelector", {}).items()):
            words = "0/1 nodes are available: 1 node(s) didn't match Pod's node affinity."
        elif int(asked.get("memory", 0)) > MEMORY:
            words = "0/1 nodes are available: 1 Insufficient memory."
        if words:
            said = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": words}
            self._send("PATCH", f"{PODS}/{name}/status", {"status": {"conditions": [said]}}, MERGE)
        else:
            bound = {"metadata": {"name": name}, "target": {"apiVersion": "v1", "kind": "Node", "name": NAME}}
            self._send("POST", f"{PODS}/{name}/binding", bound)

    def _run(self, pod: Object) -> None:
        """A pod's life here."""
        name, began = pod["metadata"]["name"], now()
        process = self._start(pod, began)
        if process is not None:
            self._report(name, "Running", {"running": {"startedAt": began}})
            reason = kube_pod.until_over(process, pod["spec"], lambda: self._going(name))
            if not self.up:
                return
            reason = "Evicted" if name in self._evicted else reason
            ended = kube_pod.terminated(process.returncode, began, told=bool(reason))
            phase = "Failed" if ended["exitCode"] or reason else "Succeeded"
            words = {"Evicted": "The node was low on resource: memory."}
            words |= {"DeadlineExceeded": "Pod was active on the node longer than the specified deadline"}
            self._report(name, phase, {"terminated": ended}, **_told(reason, words.get(reason, "")))
        self._leave(name)

    def _start(self, pod: Object, began: str) -> Process | None:
        """None where it came to nothing, or is to go before it has begun."""
        name, said = pod["metadata"]["name"], ""
        while self.open and self.up and not self._going(name):
            words, reason = "as the test wants it", self.wait
            try:
                if not reason:
                    self._report(name, "Pending", _waiting("ContainerCreating"))
                    work = self.work(pod["metadata"]["annotations"]["tsched/run"])
                    files = self.root / "pods" / name
                    made = kube_pod.start(pod, files=files, work=work, log=self.log(name), secrets=self._secrets())
                    self.processes[name] = made
                    return made
            except KeyError as missing:
                reason, words = "CreateContainerConfigError", f'secret "{missing.args[0]}" not found'
            except OSError as error:
                self._report(name, "Failed", {"terminated": kube_pod.unstartable(error, began)})
                return None
            if said != reason:
                self._report(name, "Pending", _waiting(reason, words))
                said = reason
            time.sleep(0.1)
        return None

    def _going(self, name: str) -> bool:
        with self._lock:
            return name not in self._pods or "deletionTimestamp" in self._pods[name]["metadata"]

    def _leave(self, name: str) -> None:
        """What has ended and is to go is taken away, as its node's own word."""
        with self._lock:
            pod = self._pods.get(name)
        if self.up and pod is not None and "deletionTimestamp" in pod["metadata"]:
            options = {"gracePeriodSeconds": 0, "preconditions": {"uid": pod["metadata"]["uid"]}}
            self._send("DELETE", f"{PODS}/{name}", options)

    def _report(self, name: str, phase: str, state: Object, **more: str) -> None:
        with self._lock:
            pod = self._pods.get(name)
        if pod is None:
            return
        body = {"metadata": {"uid": pod["metadata"]["uid"]}, "status": kube_pod.status(pod, phase, state, **more)}
        self._send("PATCH", f"{PODS}/{name}/status", body, MERGE)

    def _secrets(self) -> dict[str, dict[str, str]]:
        found = self._http.get(f"/api/v1/namespaces/{NAMESPACE}/secrets").json()["items"]
        return {
            one["metadata"]["name"]: {key: b64decode(value).decode() for key, value in one.get("data", {}).items()}
            for one in found
        }


def _waiting(reason: str, message: str = "") -> Object:
    return {"waiting": {"reason": reason} | ({"message": message} if message else {})}


def _told(reason: str, message: str) -> dict[str, str]:
    return {"reason": reason, "message": message} if reason else {}


class _Kubelet(ThreadingHTTPServer):
    daemon_threads = True
    node: Node

    def handle_error(self, request: object, client_address: object) -> None:
        """Clients that hang up are no news."""


class _Handler(BaseHTTPRequestHandler):
    """The kubelet's own API, as far as `kubectl logs` needs it."""

    server: _Kubelet

    def log_message(self, format: str, *args: object) -> None:
        pass

    def do_GET(self) -> None:
        """/containerLogs/NAMESPACE/POD/CONTAINER"""
        if self.server.node.mute or not self.server.node.up:
            self.close_connection = True
            return
        log = self.server.node.log(self.path.partition("?")[0].split("/")[3])
        there = log.exists()
        self.send_response(200 if there else 400)
        self.send_header("Content-Type", "text/plain")
        self.end_headers()
        self.wfile.write(log.read_bytes() if there else b"the container is waiting to start")
