"""A run on a node that shares no folder: the very script that Slurm gets, run here by hand, over a real HTTP door."""

import hashlib
import http.client
import json
import re
import secrets
import shutil
import signal
import subprocess
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from tests.integration.executor_contract import STAYS, WAITS
from tests.integration.local_runs import Place, shell, wait_for
from tests.integration.nodes import Door
from tsched.executors import parcel, whose
from tsched.executors.executor import Launch
from tsched.executors.nodes import Nodes
from tsched.model.fleet import Runtime
from tsched.model.placement import Engine, Slurm
from tsched.model.run import ExitReason, RunExit
from tsched.serving import RefusedError

OVER = 410
Answer = tuple[int, dict[str, object]]  # status, body
TOKEN, OTHER = "11" * 32, "22" * 32


class NodePlace(Place):
    """`workspaces` is where the node has the run."""

    def __init__(self, root: Path) -> None:
        self.run_id = f"n-{secrets.token_hex(6)}"
        super().__init__(root)
        self.workspaces = parcel.place(self.run_id) / "workspaces"
        self.nodes = Nodes(runs=self.runs, running=self.running, logs=self.logs)
        self.door = Door(self.nodes)
        self.address = self.door.address
        self.executor = self.another()
        self.jobs: list[subprocess.Popen[bytes]] = []

    def prepared(self, runtime: Runtime, **options: object) -> str:
        launch = self.launch_of(runtime, **options)
        self.prepare(launch)
        return launch.run.run_id

    def launch_of(self, runtime: Runtime, **options: object) -> Launch:
        return super().launch_of(runtime, **{"engine": Engine.SLURM, "slurm": Slurm(shared=False), **options})

    def job(self, run_id: str = "") -> "subprocess.Popen[bytes]":
        """The run's job, as a node starts it: with nothing of ours but its script."""
        script = self.runs / (run_id or self.run_id) / "job.sh"
        with (self.root / "job.out").open("ab") as said:
            job = subprocess.Popen(
                ["/bin/sh", script], env={"PATH": "/usr/bin:/bin"}, cwd="/", start_new_session=True,
                stdout=said, stderr=said,
            )  # fmt: skip
        self.jobs.append(job)
        return job

    def end(self) -> RunExit:
        return wait_for(lambda: self.executor.exit(self.run_id))

    def ticket(self) -> str:
        found = re.search(r"printf %s ([0-9a-f]{64})", (self.runs / self.run_id / "job.sh").read_text())
        assert found is not None
        return found[1]

    def ask(
        self, what: str, secret: str, said: Mapping[str, object], run_id: str = "", runner_id: str = whose.NONE
    ) -> Answer:
        link = http.client.HTTPConnection(urlsplit(self.door.address).netloc, timeout=20)
        path, headers = f"/nodes/{run_id or self.run_id}/{what}", {"authorization": f"Bearer {secret}"}
        headers["tsched-runner"] = runner_id
        link.request("POST", path, json.dumps(said), headers)
        answer = link.getresponse()
        text = answer.read().decode()
        link.close()
        return answer.status, json.loads(text) if text.startswith("{") else {"error": text}

    def start(self, token: str = TOKEN) -> int:
        said = {"token_sha256": hashlib.sha256(token.encode()).hexdigest(), "host": "node7"}
        return self.ask("start", self.ticket(), said)[0]

    def word(self, token: str = TOKEN, run_id: str = "", **said: object) -> Answer:
        blank = {"process": None, "stopping": None, "exit": None, "words": "", "beating": True}
        return self.ask("word", token, {**blank, "log": {"at": 0, "data": ""}, **said}, run_id)


@pytest.fixture
def place(tmp_path: Path) -> Iterator[NodePlace]:
    made = NodePlace(tmp_path)
    made.door.open()
    try:
        yield made
    finally:
        for job in made.jobs:
            job.terminate()
            job.wait()
        made.door.close()
        shutil.rmtree(parcel.place(made.run_id), ignore_errors=True)


# -- the run ---------------------------------------------------------------------------------------------------------


def test_a_run_is_fetched_seen_through_and_leaves_nothing_on_its_node(place: NodePlace) -> None:
    place.prepared(shell(f"echo hello; {WAITS}; exit 7"))
    job = place.job()
    lease = place.until_running()
    assert (lease["host"], lease["executor"]) != ("", "local")
    beat = place.lease_of().stat().st_mtime_ns
    wait_for(lambda: place.lease_of().stat().st_mtime_ns > beat)
    assert place.log(place.run_id) == "hello\n"  # also while it runs
    (place.workspaces / place.run_id / "go").touch()
    end = place.end()
    assert (end.reason, end.exit_code, end.started) == (ExitReason.EXITED, 7, True)
    assert job.wait() == 0
    assert not place.lease_of().exists()
    assert not parcel.place(place.run_id).exists()


def test_a_stop_reaches_it_and_can_be_recalled_before(place: NodePlace) -> None:
    place.prepared(shell(STAYS))
    place.job()
    there = place.workspaces / place.run_id / "there"
    wait_for(there.exists)
    asked = parcel.place(place.run_id) / "runs" / place.run_id / "stop"
    place.executor.stop([place.run_id], reason=ExitReason.DRAIN, at=4e9)
    wait_for(asked.exists)
    assert place.executor.recall(place.run_id)
    wait_for(lambda: not asked.exists())
    place.executor.stop([place.run_id], reason=ExitReason.STOPPED, at=0)
    assert place.end().reason is ExitReason.STOPPED


def test_an_end_that_nobody_hears_is_told_when_somebody_does(place: NodePlace) -> None:
    place.prepared(shell(f"echo once; {WAITS}; echo twice"), heartbeat=30)
    job = place.job()
    place.until_running()
    place.door.shut()
    node = parcel.place(place.run_id) / "runs" / place.run_id
    (place.workspaces / place.run_id / "go").touch()
    wait_for((node / "exit.json").exists)
    assert place.executor.exit(place.run_id) is None
    place.door.open()
    assert place.end().exit_code == 0
    assert place.log(place.run_id) == "once\ntwice\n"
    assert job.wait() == 0


def test_a_run_out_of_touch_with_runner_and_cluster_ends_itself(place: NodePlace) -> None:
    place.prepared(shell("trap 'echo term; exit 9' TERM; while :; do sleep 0.05; done"))
    place.job()
    place.until_running()
    place.door.shut()
    node = parcel.place(place.run_id) / "runs" / place.run_id
    wait_for((node / "exit.json").exists)
    place.door.open()
    assert place.end().reason is ExitReason.LEASE_GONE


def test_a_lease_that_is_removed_by_hand_ends_it(place: NodePlace) -> None:
    place.prepared(shell(STAYS))
    place.job()
    place.until_running()
    place.lease_of().unlink()
    assert place.end().reason is ExitReason.LEASE_GONE


def test_the_term_of_the_cluster_is_a_stop(place: NodePlace) -> None:
    place.prepared(shell(STAYS))
    job = place.job()
    wait_for((place.workspaces / place.run_id / "there").exists)
    job.send_signal(signal.SIGTERM)
    assert place.end().reason is ExitReason.STOPPED


def test_a_log_that_was_shortened_in_its_middle_comes_back_as_it_is(place: NodePlace) -> None:
    place.executor = place.another(log_max=1 << 20)
    place.prepared(shell("seq 400000; echo the end"))
    place.job()
    place.end()
    log = place.log(place.run_id)
    assert log.startswith("1\n2\n")
    assert log.endswith("400000\nthe end\n")
    assert log.count("bytes of output are left out here") == 1
    assert len(log) <= 1 << 20


# -- who decides -----------------------------------------------------------------------------------------------------


def test_of_two_jobs_of_one_run_one_starts_it(place: NodePlace) -> None:
    place.prepared(shell("echo once"))
    status: list[int] = []
    both = [threading.Thread(target=lambda one=one: status.append(place.start(one))) for one in (TOKEN, OTHER)]
    for one in both:
        one.start()
    for one in both:
        one.join()
    assert sorted(status) == [200, OVER]


def test_the_job_that_did_not_hear_the_answer_may_ask_again(place: NodePlace) -> None:
    place.prepared(shell("echo once"))
    assert [place.start(), place.start(), place.start(OTHER)] == [200, 200, OVER]
    assert place.word()[0] == 200


def test_a_run_that_recovery_has_fenced_is_started_by_no_job(place: NodePlace) -> None:
    place.prepared(shell("touch started"))
    end = place.executor.recover(place.run_id)
    assert end is not None
    assert end.reason is ExitReason.NOT_STARTED
    job = place.job()
    assert job.wait() == 3
    assert (place.root / "job.out").read_text() == "tsched: the run is not this job's: nothing is started\n"
    assert place.executor.exit(place.run_id) == end
    assert not parcel.place(place.run_id).exists()


def test_a_run_that_was_settled_ends_on_its_node_too(place: NodePlace) -> None:
    place.prepared(shell(STAYS))
    job = place.job()
    wait_for((place.workspaces / place.run_id / "there").exists)
    place.lease_of().unlink()
    shutil.rmtree(place.runs / place.run_id)
    job.wait(timeout=30)
    assert not parcel.place(place.run_id).exists()


class Elsewhere(Nodes):
    """Another runner's state folder, in which something stands too."""

    def __init__(self, root: Path) -> None:
        (root / "runs").mkdir(parents=True)
        (root / "runner_id").write_text("b" * 32)
        super().__init__(runs=root / "runs", running=root / "running", logs=root / "logs")
        self.refused: list[int] = []

    def admit(self, run_id: str, secret: str, *, runner_id: str, starting: bool) -> None:
        try:
            super().admit(run_id, secret, runner_id=runner_id, starting=starting)
        except RefusedError as error:
            self.refused.append(error.status)
            raise


def test_a_server_of_the_wrong_state_folder_ends_no_run_and_loses_no_end(place: NodePlace) -> None:
    (place.root / "runner_id").write_text("a" * 32)
    place.prepared(shell(f"echo once; {WAITS}"), heartbeat=30)
    job = place.job()
    place.until_running()
    place.door.shut()
    right, wrong = place.door.nodes, Elsewhere(place.root / "wrong")
    place.door.nodes = wrong
    place.door.open()
    (place.workspaces / place.run_id / "go").touch()
    wait_for(lambda: wrong.refused)
    place.door.shut()
    place.door.nodes = right
    place.door.open()
    assert (place.end().reason, place.end().exit_code) == (ExitReason.EXITED, 0)
    assert (job.wait(), {*wrong.refused}) == (0, {404})


def test_a_run_that_is_gone_is_over_for_its_own_runner_alone(place: NodePlace) -> None:
    (place.root / "runner_id").write_text("a" * 32)
    place.prepared(shell("echo mine"))
    place.start()
    shutil.rmtree(place.runs / place.run_id)
    asked = [place.ask("word", TOKEN, {}, runner_id=one)[0] for one in ("a" * 32, "b" * 32, "")]
    assert asked == [OVER, 404, OVER], "a job of an older tsched does not say whose it is: its word is as it was"


# -- what a secret opens, and what it does not -----------------------------------------------------------------------


def test_a_secret_opens_its_own_run_and_no_other(place: NodePlace) -> None:
    other = place.prepared(shell("echo other"), run_id=f"{place.run_id}-b")
    place.prepared(shell("echo mine"))
    assert place.start() == 200
    assert place.ask("start", place.ticket(), {"token_sha256": "0" * 64, "host": "x"}, other)[0] == 401
    assert place.word(run_id=other)[0] == 401
    assert place.word(OTHER)[0] == 401
    assert place.word("")[0] == 401
    assert place.word(place.ticket())[0] == 401  # spent
    assert place.word()[0] == 200


def test_nobody_without_a_secret_has_a_body_read(place: NodePlace) -> None:
    place.prepared(shell("echo mine"))
    assert place.ask("start", "guess", {"a": "x" * (1 << 21)})[0] == 401
    assert place.ask("start", place.ticket(), {"a": "x" * (1 << 21)})[0] == 413


def test_a_token_is_worth_nothing_once_the_end_is_on_record(place: NodePlace) -> None:
    place.prepared(shell("echo mine"))
    place.start()
    end = {"run_id": place.run_id, "reason": "exited", "started": True, "exit_code": 3}
    assert place.word(exit=end)[1]["over"]
    assert place.word(exit={**end, "exit_code": 0}, words="forged", process=None)[1]["over"]
    assert place.end().exit_code == 3
    assert not (place.runs / place.run_id / "shim.log").exists()
    place.executor.discard(place.run_id, succeeded=True)
    assert place.word()[0] == OVER


@pytest.mark.parametrize(
    "said",
    [
        {"exit": {"run_id": "another", "reason": "exited", "started": True}},
        {"exit": {"run_id": "{run}", "reason": "not-started", "started": False}},  # recovery's word alone
        {"process": {"pid": -1}},
        {"log": {"at": 0, "data": "no base64!"}},
        {"log": {"at": -5, "data": ""}},
        {"words": "x" * 9000},
    ],
)
def test_a_word_that_no_shim_says_changes_nothing(place: NodePlace, said: dict[str, dict[str, object]]) -> None:
    place.prepared(shell("echo mine"))
    place.start()
    before = {path: path.read_bytes() for path in place.runs.rglob("*") if path.is_file()}
    text = json.dumps(said).replace("{run}", place.run_id)
    assert place.word(**json.loads(text))[0] == 400
    assert {path: path.read_bytes() for path in place.runs.rglob("*") if path.is_file()} == before
    assert place.executor.exit(place.run_id) is None


def test_a_node_fills_no_disk_with_its_log_and_leaves_no_hole_in_it(place: NodePlace) -> None:
    place.executor = place.another(log_max=1 << 20)
    place.prepared(shell("echo mine"))
    place.start()
    data = "QUJD" * 100_000  # 300,000 bytes
    sizes = [place.word(log={"at": at, "data": data})[1]["log"] for at in (7, 0, 300_000, 600_000, 900_000, 1 << 40)]
    assert sizes == [0, 300_000, 600_000, 900_000, 900_000, 900_000]
    assert len(place.log(place.run_id)) == 900_000


@pytest.mark.parametrize("name", ["..", "%2e%2e%2fruns", "a%00b", "n-unknown"])
def test_no_name_leads_out_of_the_runs(place: NodePlace, name: str) -> None:
    place.prepared(shell("echo mine"))
    status, said = place.word(run_id=name)
    assert status in (400, 404, OVER)
    assert str(place.root) not in json.dumps(said)


def test_no_secret_stands_in_a_file_an_argument_or_an_environment(place: NodePlace) -> None:
    place.environ = {**place.environ, "KEY": "canary-secret"}
    place.executor = place.another(pass_env=("KEY",))
    place.prepared(shell(f"test $KEY = canary-secret && env && {WAITS}"))
    ticket = place.ticket()
    assert "canary-secret" not in (place.runs / place.run_id / "job.sh").read_text()
    job = place.job()
    place.until_running()
    known = json.loads((place.runs / place.run_id / "started").read_bytes())["token"]
    for process in Path("/proc").glob("[0-9]*"):
        for name in ("cmdline", "environ"):
            assert _secrets(process / name, {parcel.digest(ticket), known}) == set()
    (place.workspaces / place.run_id / "go").touch()
    assert place.end().exit_code == 0
    assert job.wait() == 0
    found = {path.name for path in place.root.rglob("*") if _secrets(path, {parcel.digest(ticket), known})}
    assert found == {"job.sh"}  # the ticket, which is spent


def _secrets(path: Path, digests: set[str]) -> set[str]:
    """What in a file has one of these hashes."""
    try:
        text = path.read_bytes() if path.is_file() else b""
    except OSError:
        return set()
    return {word.decode() for word in re.findall(rb"[0-9a-f]{64}", text) if parcel.digest(word.decode()) in digests}
