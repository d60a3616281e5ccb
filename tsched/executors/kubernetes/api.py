"""What is asked of a Kubernetes API server, over the official client: each request within its own time, sent once."""

import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from tsched.executors.kubernetes.job import AGENT, JSON, Place, mapping, objects
from tsched.model.errors import ConfigurationError, TransientError

if TYPE_CHECKING:
    from kubernetes.client.api_client import ApiClient

PATIENCE = 10.0  # seconds that connecting, and each piece of an answer, may take
PAGE = 500  # objects of one answer
SILENCE = 120.0  # seconds that a watch may say nothing: where nothing happens, servers send no bookmark either
CHUNK = 1 << 16
_PATHS = {"jobs": "/apis/batch/v1/namespaces/{ns}/jobs", "pods": "/api/v1/namespaces/{ns}/pods"}
_ACCOUNT = "/var/run/secrets/kubernetes.io/serviceaccount/namespace"
_MISSING = "executor kubernetes needs a Python package that is not here: install tsched[kubernetes]"


class GoneError(TransientError):
    """A watch's place in history is no more: list anew."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """Of the API server. `value`: the object, or the Status that says why not."""

    status: int
    value: JSON = field(default_factory=dict)

    @property
    def words(self) -> str:
        return str(self.value.get("message") or f"status {self.status}")[:500]


class _Response(Protocol):
    status: int

    def stream(self, amt: int) -> Iterator[bytes]: ...
    def close(self) -> None: ...
    def release_conn(self) -> None: ...


class Api:
    """Jobs and pods of one namespace. Every method raises TransientError where there is no (useful) answer.

    Raises ConfigurationError where the client is not installed, or the kubeconfig can't be used.
    """

    def __init__(self, context: str, namespace: str, environ: Mapping[str, str]) -> None:
        self._client, default = _client(context, environ)
        self.place = Place(context=context, namespace=namespace or default)

    def create(self, manifest: JSON) -> JSON | None:
        """A new Job; None where there is one of its name. Raises ConfigurationError where it is refused as it is.

        Sent once. After a TransientError nobody knows whether it is there now: look.
        """
        return self._create(manifest, {"fieldValidation": "Strict"})

    def rehearse(self, manifest: JSON) -> JSON:
        """A Job as it would be, were it made: what a server is too old for is not in it. Raises as `create` does."""
        return self._create(manifest, {"dryRun": "All"}) or {}

    def _create(self, manifest: JSON, query: Mapping[str, str]) -> JSON | None:
        answer = self._ask("POST", self._path("jobs"), query=query, body=manifest)
        if answer.status == 409:
            return None
        quota = answer.status == 403 and "quota" in answer.words
        if answer.status in (400, 403, 404, 413, 422) and not quota:
            raise ConfigurationError(
                f"Kubernetes refuses it: {answer.words}: mend `kubernetes` or `resources`, or the cluster"
            )
        return _good(answer, "the Job can't be made")

    def job(self, name: str) -> JSON | None:
        """A Job by its name; None where there is none."""
        answer = self._ask("GET", self._path("jobs", name))
        return None if answer.status == 404 else _good(answer, "the Job can't be looked at")

    def end(self, name: str, uid: str) -> None:
        """Delete a Job. It stays, as one that is being deleted, until its pods have ended within their own grace."""
        options: dict[str, object] = {"apiVersion": "v1", "kind": "DeleteOptions", "propagationPolicy": "Foreground"}
        if uid:
            options["preconditions"] = {"uid": uid}  # never another of the same name
        answer = self._ask("DELETE", self._path("jobs", name), body=options)
        if answer.status not in (404, 409):
            _good(answer, "the Job can't be ended")

    def forget(self, pod: str, uid: str) -> None:
        """Take a pod of a lost node off the books: nobody waits for the node's word any more."""
        options = {
            **{"apiVersion": "v1", "kind": "DeleteOptions", "gracePeriodSeconds": 0},
            "preconditions": {"uid": uid},
        }
        answer = self._ask("DELETE", self._path("pods", pod), body=options)
        if answer.status not in (404, 409):
            _good(answer, "the pod can't be forgotten")

    def list(self, kind: str, selector: str) -> tuple[Sequence[JSON], str]:
        """All of a kind that the selector names, and the version of that picture."""
        found: list[JSON] = []
        query = {"labelSelector": selector, "limit": str(PAGE)}
        for _ in range(10_000):
            answer = self._ask("GET", self._path(kind), query=query)
            if answer.status == 410:  # its pages are too old by now
                raise GoneError(answer.words)
            value = _good(answer, f"{kind} can't be listed")
            found += objects(value.get("items"))
            meta = mapping(value.get("metadata"))
            if not (more := str(meta.get("continue") or "")):
                return found, str(meta.get("resourceVersion", ""))
            query["continue"] = more
        raise TransientError(f"the list of {kind} has no end")

    def watch(self, kind: str, selector: str, version: str, *, seconds: int) -> Iterator[tuple[str, JSON]]:
        """What changes after that version, as (type, object), for so many seconds at most. Raises GoneError too."""
        query = {"labelSelector": selector, "resourceVersion": version, "watch": "true"}
        query |= {"allowWatchBookmarks": "true", "timeoutSeconds": str(seconds)}
        with self._open("GET", self._path(kind), query=query, silence=SILENCE) as response:
            if response.status != 200:
                error = GoneError if response.status == 410 else TransientError
                raise error(_answer(response).words)
            for line in _lines(response):
                event = _object(line)
                change, value = str(event.get("type")), mapping(event.get("object"))
                if change == "ERROR":
                    error = GoneError if value.get("code") == 410 else TransientError
                    raise error(str(value.get("message")))
                yield change, value

    def log(self, pod: str, take: Callable[[bytes], object]) -> None:
        """What the agent has said, in pieces. Nothing where there is no log of it."""
        query = {"container": AGENT}
        with self._open("GET", f"{self._path('pods', pod)}/log", query=query) as response:
            if response.status in (400, 404):
                return
            if response.status != 200:
                raise TransientError(f"the log of {pod} can't be had: {_answer(response).words}")
            for piece in response.stream(CHUNK):
                take(piece)

    def complaint(self, uid: str) -> str:
        """The newest warning about an object, "" where there is none or it may not be asked for."""
        query = {"fieldSelector": f"involvedObject.uid={uid},type=Warning", "limit": "50"}
        try:
            answer = self._ask("GET", f"/api/v1/namespaces/{self.place.namespace}/events", query=query)
        except TransientError:
            return ""
        said = [str(one.get("message", "")) for one in objects(answer.value.get("items"))]
        return said[-1] if said else ""

    def _path(self, kind: str, name: str = "") -> str:
        return _PATHS[kind].format(ns=self.place.namespace) + (f"/{name}" if name else "")

    def _ask(
        self, method: str, path: str, *, query: Mapping[str, str] | None = None, body: JSON | None = None
    ) -> Answer:
        with self._open(method, path, query=query, body=body) as response:
            return _answer(response)

    @contextmanager
    def _open(
        self, method: str, path: str, *, query: Mapping[str, str] | None = None, body: JSON | None = None,
        silence: float | None = None,
    ) -> Iterator[_Response]:  # fmt: skip
        from kubernetes.client.exceptions import OpenApiException
        from urllib3.exceptions import HTTPError

        headers = {"Accept": "application/json"} | ({} if body is None else {"Content-Type": "application/json"})
        try:
            request = self._client.param_serialize(
                method, path, query_params=list((query or {}).items()), header_params=headers, body=body,
                auth_settings=["BearerToken"],
            )  # fmt: skip
            answer: _Response = self._client.call_api(
                *request, _request_timeout=(PATIENCE, silence or PATIENCE)
            ).response
            try:
                yield answer
            finally:
                answer.close()  # what was read to its end has given its connection back already
                answer.release_conn()
        except (HTTPError, OpenApiException, OSError) as error:
            raise TransientError(f"{self._client.configuration.host}: {_reason(error)}") from error


def _client(context: str, environ: Mapping[str, str]) -> "tuple[ApiClient, str]":
    """The client, and the namespace that the kubeconfig names for it."""
    try:
        from kubernetes.client.api_client import ApiClient
        from kubernetes.client.configuration import Configuration
        from kubernetes.config import ConfigException, kube_config, load_incluster_config
    except ImportError:
        raise ConfigurationError(_MISSING) from None
    home = os.path.join(environ.get("HOME", "/"), ".kube", "config")
    file, settings = environ.get("KUBECONFIG") or home, Configuration()
    try:
        if not environ.get("KUBECONFIG") and not os.path.exists(home) and "KUBERNETES_SERVICE_HOST" in environ:
            load_incluster_config(client_configuration=settings)
            with open(_ACCOUNT, encoding="ascii") as account:
                default = account.read().strip()
        else:
            kube_config.load_kube_config(
                config_file=file, context=context or None, client_configuration=settings, persist_config=False
            )
            known, active = kube_config.list_kube_config_contexts(config_file=file)
            mine = next((one for one in known if one["name"] == context), active)
            default = str(mine["context"].get("namespace") or "default")
    except (ConfigException, OSError, KeyError, ValueError, TypeError) as error:
        raise ConfigurationError(f"the kubeconfig can't be used: {error}: mend {file}, or set KUBECONFIG") from error
    settings.retries = False  # a request is sent once: what may have happened is looked for
    return ApiClient(configuration=settings), default


def _answer(response: _Response) -> Answer:
    return Answer(status=response.status, value=_object(b"".join(response.stream(CHUNK))))


def _good(answer: Answer, what: str) -> JSON:
    if not 200 <= answer.status < 300:
        raise TransientError(f"{what}: {answer.words}")
    return answer.value


def _lines(response: _Response) -> Iterator[bytes]:
    rest = b""
    for piece in response.stream(CHUNK):
        *whole, rest = (rest + piece).split(b"\n")
        yield from filter(None, whole)


def _object(data: bytes) -> JSON:
    try:
        return mapping(json.loads(data)) if data else {}
    except ValueError as error:
        raise TransientError("the API server's answer is no JSON") from error


def _reason(error: BaseException) -> str:
    """In a few words: urllib3 tells the whole story, each time."""
    inner = getattr(error, "reason", None) or error
    words = inner if isinstance(inner, str) else f"no answer ({type(inner).__name__})"
    return " ".join(words.split())  # the client's own words go over several lines
