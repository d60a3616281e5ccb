"""A real control plane of Kubernetes in a folder: etcd, kube-apiserver, kube-controller-manager; TLS and RBAC."""

import json
import os
import shutil
import signal
import socket
import ssl
import subprocess
import time
from base64 import b64decode
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx

Object = dict[str, Any]
PROGRAMS = ("etcd", "kube-apiserver", "kube-controller-manager")
FOLDER = os.environ.get("TSCHED_TEST_KUBE_BIN", "")
PATIENCE = 90.0  # seconds
NAMESPACE = "agents"
ADMIN, RUNNER = "token-of-the-admin", "canary-of-the-kubeconfig"
GATES = "--feature-gates=TTLAfterFinished=true"  # alpha in 1.20
# What docs/kubernetes.md says that a runner has to be allowed, and no more.
RULES = [
    {"apiGroups": ["batch"], "resources": ["jobs"], "verbs": ["create", "get", "list", "watch", "delete"]},
    {"apiGroups": [""], "resources": ["pods"], "verbs": ["get", "list", "watch", "delete"]},
    {"apiGroups": [""], "resources": ["pods/log"], "verbs": ["get"]},
    {"apiGroups": [""], "resources": ["events"], "verbs": ["list"]},
]
AUDIT = {
    **{"apiVersion": "audit.k8s.io/v1", "kind": "Policy", "omitStages": ["RequestReceived"]},
    "rules": [{"level": "Metadata", "users": ["runner"]}, {"level": "None"}],
}
CONTROLLERS = (
    *("job", "ttl-after-finished", "garbagecollector", "podgc", "nodelifecycle"),
    *("namespace", "serviceaccount", "serviceaccount-token", "resourcequota"),
)


def program(name: str) -> str:
    """Where it is, "" for nowhere."""
    return shutil.which(name, path=f"{FOLDER}:{os.environ.get('PATH', '')}") or ""


def why_not() -> str:
    """Why there can be no control plane here, "" where there can."""
    if missing := [name for name in (*PROGRAMS, "openssl") if not program(name)]:
        return f"no {', '.join(missing)} here or in TSCHED_TEST_KUBE_BIN: CONTRIBUTING.md says how to come by them"
    return ""


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


class Control:
    """`port` is the API server's, the same for all its lives; `http` asks it as an administrator."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.port, self._etcd, self._peers = free_port(), free_port(), free_port()
        self.key, self.cert = root / "key.pem", root / "cert.pem"
        self._processes: dict[str, subprocess.Popen[bytes]] = {}

    # -- its processes -----------------------------------------------------------------------------------------------

    def start(self) -> None:
        """All three, a namespace, and somebody who may do there what a runner has to."""
        self._certificates()
        users = f"{ADMIN},admin,1,system:masters\n{RUNNER},runner,2\n"
        (self.root / "tokens.csv").write_text(users)
        (self.root / "audit.yaml").write_text(json.dumps(AUDIT))
        at, peers = f"http://127.0.0.1:{self._etcd}", f"http://127.0.0.1:{self._peers}"
        self._run(
            "etcd", f"--data-dir={self.root / 'etcd'}", f"--listen-client-urls={at}", f"--advertise-client-urls={at}",
            f"--listen-peer-urls={peers}", f"--initial-advertise-peer-urls={peers}",
            f"--initial-cluster=default={peers}",
        )  # fmt: skip
        self.start_api()
        context = ssl.create_default_context(cafile=str(self.cert))
        self.http = httpx.Client(
            base_url=self.address, verify=context, headers={"Authorization": f"Bearer {ADMIN}"}, timeout=20.0
        )
        self.until(self._healthy, "the API server is healthy")
        self._people()
        self.start_controllers()
        self.until(self._account, "the namespace has its account")

    def start_api(self) -> None:
        key = str(self.key)
        self._run(
            "kube-apiserver", GATES, f"--etcd-servers=http://127.0.0.1:{self._etcd}", "--bind-address=127.0.0.1",
            f"--secure-port={self.port}", f"--tls-cert-file={self.cert}", f"--tls-private-key-file={key}",
            f"--client-ca-file={self.cert}", f"--token-auth-file={self.root / 'tokens.csv'}",
            "--anonymous-auth=false", "--authorization-mode=RBAC", "--service-cluster-ip-range=10.0.0.0/24",
            f"--service-account-key-file={key}", f"--service-account-signing-key-file={key}",
            "--service-account-issuer=https://kubernetes.default.svc", "--allow-privileged=false",
            "--kubelet-preferred-address-types=InternalIP", f"--audit-policy-file={self.root / 'audit.yaml'}",
            f"--audit-log-path={self.audit}", "--endpoint-reconciler-type=none",
        )  # fmt: skip

    def start_controllers(self) -> None:
        admin = self.kubeconfig("controllers", {"token": ADMIN})
        self._run(
            "kube-controller-manager", GATES, f"--kubeconfig={admin}", "--leader-elect=false", "--port=0",
            "--secure-port=0", f"--controllers={','.join(CONTROLLERS)}",
            f"--service-account-private-key-file={self.key}", f"--root-ca-file={self.cert}",
            "--node-monitor-period=1s", "--node-monitor-grace-period=6s",
        )  # fmt: skip

    def kill(self, name: str) -> None:
        """kill -9, seen through."""
        process = self._processes.pop(name)
        process.send_signal(signal.SIGKILL)
        process.wait()

    def revive(self) -> None:
        """As after a test that killed something: all of it up."""
        if "kube-apiserver" not in self._processes:
            self.start_api()
            self.until(self._healthy, "the API server is healthy again")
        if "kube-controller-manager" not in self._processes:
            self.start_controllers()

    def stop(self) -> None:
        if hasattr(self, "http"):
            self.http.close()
        for name in list(self._processes)[::-1]:
            self.kill(name)

    def _run(self, name: str, *arguments: str) -> None:
        with (self.root / f"{name}.log").open("ab") as log:
            self._processes[name] = subprocess.Popen(
                [program(name), *arguments], cwd=self.root, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                start_new_session=True,
            )  # fmt: skip

    # -- who may ask it ----------------------------------------------------------------------------------------------

    @property
    def address(self) -> str:
        return f"https://127.0.0.1:{self.port}"

    @property
    def audit(self) -> Path:
        """What `runner` asked, and what came of it."""
        return self.root / "audit.log"

    def kubeconfig(self, name: str, user: Mapping[str, str], *, port: int = 0) -> Path:
        """A kubeconfig for a user; `port`: of somebody who stands between."""
        path = self.root / f"{name}.kubeconfig"
        server = {"server": f"https://127.0.0.1:{port or self.port}", "certificate-authority": str(self.cert)}
        named = {"cluster": "here", "user": name, "namespace": NAMESPACE}
        path.write_text(
            json.dumps(
                {
                    **{"apiVersion": "v1", "kind": "Config", "current-context": "here"},
                    "clusters": [{"name": "here", "cluster": server}],
                    "users": [{"name": name, "user": dict(user)}],
                    "contexts": [{"name": "here", "context": named}],
                }
            )
        )
        return path

    def certificate(self, user: str) -> Mapping[str, str]:
        """A client's certificate and key, as a kubeconfig names them."""
        key, cert = self.root / f"{user}.key", self.root / f"{user}.pem"
        self._openssl("-CA", str(self.cert), "-CAkey", str(self.key), "-subj", f"/CN={user}", key=key, cert=cert)
        return {"client-certificate": str(cert), "client-key": str(key)}

    def _certificates(self) -> None:
        """One key for all that is served here: the API, the node's log, the accounts' tokens."""
        names = "subjectAltName=IP:127.0.0.1,DNS:localhost"
        self._openssl("-subj", "/CN=the-tests", "-addext", names, key=self.key, cert=self.cert)

    def _openssl(self, *arguments: str, key: Path, cert: Path) -> None:
        command = ("openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", *arguments)
        subprocess.run([*command, "-keyout", str(key), "-out", str(cert)], check=True, capture_output=True)

    # -- what it has -------------------------------------------------------------------------------------------------

    def ask(self, method: str, path: str, body: Object | None = None, **options: Any) -> Object:
        """An administrator's request that has to succeed."""
        answer = self.http.request(method, path, json=body, **options)
        assert answer.is_success, f"{method} {path}: {answer.status_code} {answer.text}"
        found: Object = answer.json()
        return found

    def all(self, kind: str) -> list[Object]:
        group = "apis/batch/v1" if kind == "jobs" else "api/v1"
        items: list[Object] = self.ask("GET", f"/{group}/namespaces/{NAMESPACE}/{kind}")["items"]
        return items

    def asked(self, verb: str, resource: str) -> int:
        """How often a runner has asked that so far, whatever came of it."""
        found = [json.loads(line) for line in self.audit.read_text().splitlines()]
        return sum(
            1 for one in found if (one["verb"], one["objectRef"]["resource"]) == (verb, resource)
            and one["stage"] in ("ResponseComplete", "ResponseStarted") and one["stage"] != _later(verb)
        )  # fmt: skip

    def quota(self, name: str, hard: Mapping[str, str]) -> str:
        """In force when this returns its path."""
        path = f"/api/v1/namespaces/{NAMESPACE}/resourcequotas"
        self.ask("POST", path, {"metadata": {"name": name}, "spec": {"hard": dict(hard)}})
        self.until(lambda: self.ask("GET", f"{path}/{name}")["status"].get("hard") == hard, "the quota is counted")
        return f"{path}/{name}"

    def account_token(self) -> str:
        """Of the namespace's own account."""
        path = f"/api/v1/namespaces/{NAMESPACE}"
        (named,) = self.ask("GET", f"{path}/serviceaccounts/default")["secrets"]
        return b64decode(self.ask("GET", f"{path}/secrets/{named['name']}")["data"]["token"]).decode()

    def compact(self) -> None:
        """etcd forgets all history."""
        with httpx.Client(base_url=f"http://127.0.0.1:{self._etcd}") as etcd:
            header = etcd.post("/v3/maintenance/status", json={}).json()["header"]
            etcd.post("/v3/kv/compaction", json={"revision": header["revision"], "physical": True}).raise_for_status()

    def clear(self) -> None:
        """Nothing of a test's is left: pods without their nodes' word."""
        for path in (f"/apis/batch/v1/namespaces/{NAMESPACE}/jobs", f"/api/v1/namespaces/{NAMESPACE}/resourcequotas"):
            self.http.request("DELETE", path, json={"propagationPolicy": "Background"})
        self.http.delete(f"/api/v1/namespaces/{NAMESPACE}/secrets", params={"fieldSelector": "type=Opaque"})
        self.until(self._cleared, "nothing of the test is left")

    def _cleared(self) -> bool:
        self.http.request("DELETE", f"/api/v1/namespaces/{NAMESPACE}/pods", json={"gracePeriodSeconds": 0})
        return not self.all("jobs") and not self.all("pods")

    def _people(self) -> None:
        group = {"apiVersion": "rbac.authorization.k8s.io/v1"}
        roles = f"/apis/{group['apiVersion']}/namespaces/{NAMESPACE}"
        whom = [{"kind": "User", "name": "runner", "apiGroup": "rbac.authorization.k8s.io"}]
        ref = {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "runner"}
        named = {"metadata": {"name": "runner"}}
        self.ask("POST", "/api/v1/namespaces", {"metadata": {"name": NAMESPACE}})
        self.ask("POST", f"{roles}/roles", {**group, "kind": "Role", **named, "rules": RULES})
        self.ask(
            "POST",
            f"{roles}/rolebindings",
            {**group, "kind": "RoleBinding", **named, "subjects": whom, "roleRef": ref},
        )

    def _healthy(self) -> bool:
        try:
            return self.http.get("/readyz").status_code == 200
        except httpx.HTTPError:
            return False

    def _account(self) -> bool:
        answer = self.http.get(f"/api/v1/namespaces/{NAMESPACE}/serviceaccounts/default")
        return answer.status_code == 200 and bool(answer.json().get("secrets"))

    def until(self, seen: Callable[[], object], what: str) -> None:
        end = time.monotonic() + PATIENCE
        while not seen():
            gone = [name for name, one in self._processes.items() if one.poll() is not None]
            assert not gone and time.monotonic() < end, f"did not happen: {what} ({gone} ended)\n{self.logs()}"
            time.sleep(0.1)

    def logs(self) -> str:
        return "\n".join(path.read_text(errors="replace")[-2000:] for path in sorted(self.root.glob("*.log")))


def _later(verb: str) -> str:
    """The stage of a request that is its second word in the audit's log."""
    return "ResponseComplete" if verb == "watch" else ""


@contextmanager
def control_at(root: Path) -> Iterator[Control]:
    control = Control(root)
    try:
        control.start()
        yield control
    finally:
        control.stop()
