"""`python -m tests.kubernetes`: records what a real API server answers, in tests/integration/kubernetes_wire.json."""

import json
import sys
import tempfile
from pathlib import Path
from typing import Any

from tests.integration.kube_script import JOBS, RECORDED, Server, job, play, stable
from tests.integration.local_runs import wait_for
from tests.kubernetes.control import ADMIN, NAMESPACE, Control, Object, control_at, why_not
from tests.kubernetes.node import Node

EVENTS = f"/api/v1/namespaces/{NAMESPACE}/events"


def main() -> None:
    if words := why_not():
        sys.exit(words)
    with tempfile.TemporaryDirectory() as folder, control_at(Path(folder)) as control:
        node = Node(control, Path(folder) / "node")
        try:
            node.start()
            heard = {**_refusals(control), **play(_server(control, node))}
        finally:
            node.open = False
            control.stop()
            node.close()
    text = json.dumps(heard, indent=1, sort_keys=True)
    RECORDED.write_text(stable(text) + "\n")


def _refusals(control: Control) -> dict[str, Any]:
    """What is said to who may not ask, or asks for what can't be had."""
    server = Server(http=control.http, work=Path, forget=str, wait=str)
    for note, token in (("refused: unknown", "wrong"), ("refused: may not", control.account_token())):
        control.http.headers["Authorization"] = f"Bearer {token}"
        server.ask("POST", JOBS, job("r-refused"), note=note)
    control.http.headers["Authorization"] = f"Bearer {ADMIN}"
    invalid: Object = job("r-refused")
    invalid["spec"]["template"]["spec"]["nodeSelector"] = {"disk": "no value"}
    server.ask("POST", JOBS, invalid, note="refused: invalid")
    path = control.quota("small", {"count/jobs.batch": "0"})
    server.ask("POST", JOBS, job("r-refused"), note="refused: a quota that is used up")
    control.ask("DELETE", path)
    lone: Object = job("r-lone")
    lone["spec"]["template"]["spec"]["serviceAccountName"] = "nobody"
    made = server.ask("POST", JOBS, lone)
    query = {"fieldSelector": f"involvedObject.uid={made['metadata']['uid']},type=Warning", "limit": "50"}
    wait_for(lambda: server.ask("GET", EVENTS, **query)["items"])
    server.ask("DELETE", f"{JOBS}/r-lone", {"propagationPolicy": "Background"})
    server.ask("GET", EVENTS, note="warnings of a Job that gets no pod", **query)
    return server.heard


def _server(control: Control, node: Node) -> Server:
    def forget() -> None:
        """The API server's own memory goes with it."""
        control.compact()
        control.kill("kube-apiserver")
        control.revive()

    def wait(reason: str) -> None:
        node.wait = reason

    return Server(http=control.http, work=node.work, forget=forget, wait=wait)


if __name__ == "__main__":
    main()
