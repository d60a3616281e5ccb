"""The tests' own API server answers as a real one did (kubernetes_wire.json: Kubernetes 1.20.2)."""

import json
from pathlib import Path

import httpx
import pytest

pytest.importorskip("kubernetes", reason="the extra `kubernetes` is not installed")

from tests.integration.kube_cluster import TOKEN, cluster_at
from tests.integration.kube_script import RECORDED, Server, differences, play, shape, stable

ELSEWHERE = ("refused: ", "warnings of ")  # put into the own server's mouth by test_kubernetes.py


def test_the_own_server_answers_as_a_real_one_did(tmp_path: Path) -> None:
    real = json.loads(RECORDED.read_text())
    with cluster_at(tmp_path / "cluster", lambda run_id: tmp_path / "work" / run_id) as cluster:
        cluster.page = 500  # a real one has no smaller pages than are asked for

        def wait(reason: str) -> None:
            cluster.wait = reason or None

        headers = {"Authorization": f"Bearer {TOKEN}", "Accept": "application/json"}
        with httpx.Client(base_url=f"http://127.0.0.1:{cluster.port}", headers=headers) as http:
            heard = play(Server(http=http, work=cluster.work, forget=cluster.forget_history, wait=wait))
    own = json.loads(stable(json.dumps(heard)))
    assert own.keys() == {name for name in real if not name.startswith(ELSEWHERE)}
    found = [f"{name}: {one}" for name in own for one in differences(shape(own[name]), shape(real[name]))]
    assert found == []
