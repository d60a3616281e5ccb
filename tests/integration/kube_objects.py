"""Objects as a real API server makes them of what is asked for; test_kubernetes_wire.py holds them to its answers."""

import secrets
from copy import deepcopy
from typing import Any

from tests.integration.kube_pod import Object, now

VERSIONS = {"jobs": ("batch/v1", "Job"), "pods": ("v1", "Pod")}


class Refused(Exception):  # noqa: N818
    """An answer that is a Status."""

    def __init__(
        self, code: int, reason: str, message: str, *, details: Object | None = None, meta: Object | None = None
    ) -> None:
        super().__init__(message)
        self.code = code
        self.status = {
            **{"kind": "Status", "apiVersion": "v1", "metadata": meta or {}, "status": "Failure"},
            **{"message": message, "reason": reason, "code": code},
            **({"details": dict(details)} if details else {}),
        }


def refused(answer: Object) -> Refused:
    """The same words as in an answer that was recorded."""
    said = answer["body"]
    return Refused(said["code"], said["reason"], said["message"], details=said.get("details"))


def named(kind: str, name: str) -> Object:
    """What an answer says of the object that it is about."""
    return {"name": name, "kind": kind, **({"group": "batch"} if kind == "jobs" else {})}


def missing(kind: str, name: str) -> Refused:
    what = "jobs.batch" if kind == "jobs" else kind
    return Refused(404, "NotFound", f'{what} "{name}" not found', details=named(kind, name))


def another(kind: str, name: str, *, wanted: str, uid: str) -> Refused:
    """The answer to a request about an object of that name that was another one."""
    what = VERSIONS[kind][1] + (".batch" if kind == "jobs" else "")
    words = (
        f'Operation cannot be fulfilled on {what} "{name}": the UID in the precondition ({wanted}) does not match '
        f"the UID in record ({uid}). The object might have been deleted and then recreated"
    )
    return Refused(409, "Conflict", words, details={**named(kind, name), "kind": VERSIONS[kind][1]})


def gone(kind: str, name: str, uid: str) -> Object:
    """The answer where an object has gone at once."""
    details = {**named(kind, name), "uid": uid}
    return {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "details": details}


def in_list(one: Object) -> Object:
    """As a list holds it."""
    return {key: value for key, value in one.items() if key not in ("kind", "apiVersion")}


def new_job(body: Object) -> Object:
    """A Job that was asked for."""
    job: Object = _told(deepcopy(body))
    uid, meta = _uid(), job["metadata"]
    drawn = f"{meta['generateName']}{_letters()}" if "generateName" in meta else ""
    meta |= {"name": meta.get("name", drawn), "namespace": "agents", "uid": uid, "creationTimestamp": now()}
    spec = job["spec"]
    template = spec["template"]
    spec["selector"] = {"matchLabels": {"controller-uid": uid}}
    marks = {"controller-uid": uid, "job-name": meta["name"]}
    template["metadata"]["labels"] |= marks
    template["metadata"]["creationTimestamp"] = None
    template["spec"] = _spec(template["spec"])
    return {**job, "status": {}}


def _spec(spec: Object) -> Object:
    """A pod's, as every pod's is."""
    always: Object = {"dnsPolicy": "ClusterFirst", "schedulerName": "default-scheduler", "securityContext": {}}
    always["terminationGracePeriodSeconds"] = 30
    found = {**always, **spec}
    said = {"terminationMessagePath": "/dev/termination-log", "terminationMessagePolicy": "File", "resources": {}}
    for one in found["containers"]:
        pull = "IfNotPresent" if ":" in one["image"] else "Always"
        one |= {**said, "imagePullPolicy": pull, **one}
    for one in found.get("volumes", []):
        if "downwardAPI" in one:
            one["downwardAPI"]["defaultMode"] = 420
    return found


def new_pod(job: Object) -> Object:
    """The pod that the Job's controller makes, as admission leaves it."""
    template, owner = job["spec"]["template"], job["metadata"]
    of = {"apiVersion": "batch/v1", "kind": "Job", "name": owner["name"], "uid": owner["uid"]}
    meta = deepcopy(template["metadata"]) | {
        **{"generateName": f"{owner['name']}-", "name": f"{owner['name']}-{_letters()}", "namespace": "agents"},
        **{"uid": _uid(), "creationTimestamp": now()},
        "ownerReferences": [{**of, "controller": True, "blockOwnerDeletion": True}],
    }
    account = template["spec"].get("serviceAccountName", "default")
    lost = {"effect": "NoExecute", "operator": "Exists", "tolerationSeconds": 300}
    spec = {
        **deepcopy(template["spec"]),
        **{"priority": 0, "preemptionPolicy": "PreemptLowerPriority"},
        **{"serviceAccount": account, "serviceAccountName": account},
        "tolerations": [{**lost, "key": f"node.kubernetes.io/{one}"} for one in ("not-ready", "unreachable")],
    }
    quality = "Guaranteed" if spec["containers"][0]["resources"] else "BestEffort"
    status = {"phase": "Pending", "qosClass": quality}
    return {"kind": "Pod", "apiVersion": "v1", "metadata": meta, "spec": spec, "status": status}


def condition(kind: str, reason: str = "") -> Object:
    """Of a Job that is over."""
    words = {"reason": reason, "message": "Job has reached the specified backoff limit"} if reason else {}
    times = {"lastProbeTime": now(), "lastTransitionTime": now()}
    return {"type": kind, "status": "True", **times, **words}


def bookmark(kind: str, version: int) -> Object:
    """How far a watch has come."""
    api, name = VERSIONS[kind]
    nothing: Object = {"metadata": {"creationTimestamp": None}, "spec": {"containers": None}}
    spec = {"template": nothing} if kind == "jobs" else nothing["spec"]
    meta = {"resourceVersion": str(version), "creationTimestamp": None}
    return {"kind": name, "apiVersion": api, "metadata": meta, "spec": spec, "status": {}}


def _told(value: Any) -> Any:
    """Without lists that are empty: an API server drops them."""
    if isinstance(value, dict):
        return {key: _told(one) for key, one in value.items() if one != []}
    return [_told(one) for one in value] if isinstance(value, list) else value


def _letters() -> str:
    return "".join(secrets.choice("bcdfghjklmnpqrstvwxz2456789") for _ in range(5))


def _uid() -> str:
    found = secrets.token_hex(16)
    return f"{found[:8]}-{found[8:12]}-{found[12:16]}-{found[16:20]}-{found[20:]}"
