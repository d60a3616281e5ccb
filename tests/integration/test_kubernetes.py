"""What may happen to a run on Kubernetes: to its request, its API server, its node, its pod and its runner."""

import os
import signal
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

pytest.importorskip("kubernetes", reason="the extra `kubernetes` is not installed")

from tests.integration.executor_contract import STAYS, WAITS, recovered, there
from tests.integration.kube_cluster import Cluster, cluster_at
from tests.integration.kube_objects import refused
from tests.integration.kube_place import IMAGE, KubePlace, later, let_go, running
from tests.integration.kube_script import recorded
from tests.integration.local_runs import shell, wait_for
from tsched.executors.executor import Liveness
from tsched.executors.kubernetes import api as kubernetes_api
from tsched.executors.kubernetes.log import Output
from tsched.model.errors import ConfigurationError, TransientError
from tsched.model.fleet import Recipe, RecipeFile, Resources, Runtime
from tsched.model.placement import Kubernetes
from tsched.model.run import ExitReason


@pytest.fixture
def place(tmp_path: Path) -> Iterator[KubePlace]:
    with cluster_at(tmp_path / "cluster", lambda run_id: tmp_path / "workspaces" / run_id) as cluster:
        yield KubePlace(tmp_path, cluster)


@pytest.fixture
def cluster(place: KubePlace) -> Cluster:
    return place.cluster


def asked(cluster: Cluster, what: str) -> int:
    return cluster.asked.count(what)


# -- the request


def test_what_was_created_and_not_told_goes_on_and_is_not_asked_for_again(place: KubePlace, cluster: Cluster) -> None:
    cluster.lose = "answer"
    with pytest.raises(TransientError, match="no answer"):
        place.launch(place.launch_of(shell("echo once")))
    cluster.lose = ""
    place.executor = place.another()  # the runner was killed, too
    place.executor.start(place.run_id)
    assert place.ended(place.run_id).exit_code == 0
    assert place.log(place.run_id) == "once\n"
    assert asked(cluster, "POST jobs") == 1


def test_a_request_that_is_still_on_its_way_finds_its_name_taken(place: KubePlace, cluster: Cluster) -> None:
    cluster.lose = "request"
    with pytest.raises(TransientError):
        place.launch(place.launch_of(shell("echo late")))
    cluster.lose = ""
    end = recovered(place)
    assert (end.reason, end.started) == (ExitReason.NOT_STARTED, False)
    cluster.late()
    assert place.executor.poll() == {place.run_id: Liveness.ENDED}
    assert cluster.all("pods") == []
    assert place.job()["spec"]["completions"] == 0


def test_a_runner_killed_before_its_request_was_sent_leaves_nothing_to_run(
    place: KubePlace, cluster: Cluster
) -> None:
    place.prepare(place.launch_of(shell("echo no")))
    (place.runs / place.run_id / "started").write_text('{"by": "kubernetes"}')
    place.executor = place.another()
    assert recovered(place).reason is ExitReason.NOT_STARTED
    place.another().start(place.run_id)
    assert cluster.all("pods") == []


def test_a_request_that_is_refused_is_the_runs_end_with_the_clusters_words(
    place: KubePlace, cluster: Cluster
) -> None:
    cluster.refuse = refused(recorded("refused: invalid"))
    end = place.ended(place.launch(place.launch_of(shell("true"))))
    assert (end.reason, end.started) == (ExitReason.START_FAILED, False)
    assert 'nodeSelector: Invalid value: "no value"' in end.detail
    assert ": mend `kubernetes`" in end.detail
    assert not place.lease_of().exists()


def test_a_quota_that_is_used_up_is_no_fault_of_the_fleet(place: KubePlace, cluster: Cluster) -> None:
    cluster.refuse = refused(recorded("refused: a quota that is used up"))
    with pytest.raises(TransientError, match="exceeded quota"):
        place.launch(place.launch_of(shell("true")))
    with pytest.raises(TransientError, match="nothing is started"):
        place.executor.prepare(place.launch_of(shell("true"), run_id="other"))
    cluster.refuse = None
    assert recovered(place).reason is ExitReason.NOT_STARTED


def test_a_cluster_that_might_run_two_pods_at_once_is_not_used(place: KubePlace, cluster: Cluster) -> None:
    cluster.drops_field = "podReplacementPolicy"
    with pytest.raises(ConfigurationError, match=r"Kubernetes 1\.29 or newer is needed"):
        place.executor.prepare(place.launch_of(shell("true")))
    assert cluster.all("jobs") == []
    assert not place.runs.exists()


def test_without_a_kubeconfig_nothing_is_prepared(place: KubePlace) -> None:
    place.environ = {**place.environ, "KUBECONFIG": str(place.root / "none")}
    place.executor = place.another()
    with pytest.raises(ConfigurationError, match="the kubeconfig can't be used"):
        place.executor.prepare(place.launch_of(shell("true")))
    assert list(place.runs.iterdir() if place.runs.exists() else ()) == []


# -- the API server


def test_a_watch_takes_the_place_of_lists(place: KubePlace, cluster: Cluster) -> None:
    run_id = running(place)
    for _ in range(5):
        assert place.executor.poll() == {run_id: Liveness.ALIVE}
    assert [asked(cluster, f"{verb} {kind}") for verb in ("GET", "WATCH") for kind in ("jobs", "pods")] == [1] * 4
    let_go(place)
    assert place.ended(run_id).exit_code == 0
    assert asked(cluster, "GET jobs") == 1


def test_a_watch_whose_history_is_gone_is_followed_by_a_list(place: KubePlace, cluster: Cluster) -> None:
    run_id = running(place)
    cluster.forget_history()
    let_go(place)
    assert place.ended(run_id).exit_code == 0
    assert asked(cluster, "GET jobs") > 1


def test_an_api_server_that_is_down_loses_nothing_and_starts_nothing(place: KubePlace, cluster: Cluster) -> None:
    run_id = running(place)
    cluster.down()
    wait_for(lambda: place.executor.poll() and place.executor.trouble())
    assert place.executor.poll() == {run_id: Liveness.ALIVE}
    assert "Kubernetes can't be asked: http://127.0.0.1" in place.executor.trouble()
    assert place.executor.recover(run_id) is None
    with pytest.raises(TransientError, match="nothing is started"):
        place.executor.prepare(place.launch_of(shell("true"), run_id="other"))
    let_go(place)
    cluster.up()
    assert place.ended(run_id).exit_code == 0
    assert place.executor.trouble() == ""


def test_an_api_server_that_was_never_there_is_asked_once_a_pass(place: KubePlace, cluster: Cluster) -> None:
    cluster.lose = "rehearsal"
    for _ in range(3):
        with pytest.raises(TransientError, match="nothing is started"):
            place.executor.prepare(place.launch_of(shell("true")))
    assert (cluster.asked, place.runs.exists()) == (["DRY jobs"], False)
    cluster.lose = ""
    place.executor.poll()
    assert place.ended(place.launch(place.launch_of(shell("true")))).exit_code == 0


def test_an_api_server_that_hangs_is_given_up(
    place: KubePlace, cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_id = running(place)
    monkeypatch.setattr(kubernetes_api, "PATIENCE", 0.2)
    cluster.hangs.set()
    place.executor = place.another()
    assert place.executor.poll() == {run_id: Liveness.ALIVE}
    assert "no answer" in place.executor.trouble()
    cluster.hangs.clear()
    monkeypatch.undo()
    let_go(place)
    assert place.ended(run_id).exit_code == 0


# -- stops


def test_a_lease_that_is_removed_by_hand_stops_the_run(place: KubePlace, cluster: Cluster) -> None:
    run_id = running(place, f"echo before; {STAYS}")
    there(place)
    place.lease_of().unlink()
    end = place.ended(run_id)
    assert (end.reason, end.started) == (ExitReason.LEASE_GONE, True)
    assert cluster.all("jobs") == cluster.all("pods") == []
    assert place.log(run_id).startswith("before\n")


def test_a_job_that_somebody_deletes_is_a_run_that_was_stopped(place: KubePlace, cluster: Cluster) -> None:
    run_id = running(place, STAYS)
    there(place)
    cluster.delete_job(place.job()["metadata"]["name"], foreground=False)
    end = recovered(place, run_id)
    assert (end.reason, end.detail, end.started) == (ExitReason.STOPPED, "its Job was deleted", True)
    assert cluster.processes.popitem()[1].returncode is not None
    assert not place.lease_of().exists()


def test_a_stop_asked_for_while_the_runner_was_away_is_carried_out(place: KubePlace, cluster: Cluster) -> None:
    run_id = running(place, STAYS)
    there(place)
    place.another().stop([run_id], reason=ExitReason.DRAIN, at=0)
    assert place.ended(run_id).reason is ExitReason.DRAIN
    assert cluster.all("pods") == []


# -- the pod and its node


@pytest.mark.parametrize("waits_for", ["ImagePullBackOff", "CreateContainerConfigError"])
def test_an_image_or_secret_that_is_not_to_be_had_is_told_after_a_while(
    place: KubePlace, cluster: Cluster, waits_for: str
) -> None:
    cluster.wait = waits_for
    run_id = place.launch(place.launch_of(shell("true")))
    wait_for(lambda: place.executor.poll() and (place.runs / run_id / "missed").exists())
    later(place, 290)
    assert place.executor.poll() == {run_id: Liveness.ALIVE}
    later(place, 310)
    end = place.ended(run_id)
    assert (end.reason, end.started) == (ExitReason.START_FAILED, False)
    assert end.detail.startswith(f"{waits_for}: as the test wants it: mend")
    assert cluster.all("jobs") == []


def test_a_name_that_is_no_image_is_told_at_once(place: KubePlace, cluster: Cluster) -> None:
    cluster.wait = "InvalidImageName"
    assert place.ended(place.launch(place.launch_of(shell("true")))).reason is ExitReason.START_FAILED


def test_a_run_that_no_node_can_take_ends_and_one_that_waits_for_room_does_not(
    place: KubePlace, cluster: Cluster
) -> None:
    cluster.unschedulable = (
        "0/3 nodes are available: 3 Insufficient memory. preemption: 0/3 nodes are available: "
        "3 No preemption victims found for incoming pod."
    )
    run_id = place.launch(place.launch_of(shell("true")))
    place.executor.poll()
    later(place, 3000)
    assert place.executor.poll() == {run_id: Liveness.ALIVE}
    assert not (place.runs / run_id / "missed").exists()
    place.finish(run_id)
    cluster.unschedulable = "0/3 nodes are available: 3 node(s) didn't match Pod's node affinity/selector."
    wanted = Kubernetes(image=IMAGE, start_within=60.0)
    place.launch(place.launch_of(shell("true"), run_id="other", kubernetes=wanted))
    wait_for(lambda: place.executor.poll() and (place.runs / "other" / "missed").exists())
    later(place, 3070)
    end = place.ended("other")
    assert end.reason is ExitReason.START_FAILED
    assert "no node can take it: 0/3" in end.detail


def test_a_job_that_gets_no_pod_is_told_with_what_kubernetes_says_of_it(place: KubePlace, cluster: Cluster) -> None:
    cluster.no_pods = True
    cluster.events = recorded("warnings of a Job that gets no pod")["body"]["items"]
    run_id = place.launch(place.launch_of(shell("true")))
    place.executor.poll()
    later(place, 310)
    assert 'serviceaccount "nobody" not found: mend' in place.ended(run_id).detail


def test_a_program_that_the_image_has_not_got_is_told(place: KubePlace) -> None:
    end = place.ended(place.launch(place.launch_of(Runtime(name="x", argv=("no-such-program",)))))
    assert (end.reason, end.started) == (ExitReason.START_FAILED, False)
    assert "mend the runtime's argv, or the image" in end.detail


def test_memory_that_was_used_up_is_told(place: KubePlace) -> None:
    end = place.ended(place.launch(place.launch_of(shell("kill -KILL $$"))))
    assert (end.reason, end.exit_code) == (ExitReason.EXITED, 137)
    assert "raise resources.memory" in end.detail


def test_a_node_that_is_lost_ends_its_run_once_it_must_have_ended_by_itself(
    place: KubePlace, cluster: Cluster
) -> None:
    run_id = place.launch(place.launch_of(shell(WAITS), max_runtime=60, stop_grace=5))
    place.until_running()
    cluster.lose_node()
    later(place, 60 + 5 + 290)
    assert place.executor.poll() == {run_id: Liveness.ALIVE}
    later(place, 60 + 5 + 310)
    end = place.ended(run_id)
    assert (end.reason, end.detail) == (ExitReason.REBOOT, "its node node-1 is lost")
    assert cluster.all("jobs") == cluster.all("pods") == []


def test_a_log_that_can_not_be_had_is_waited_for_and_then_done_without(place: KubePlace, cluster: Cluster) -> None:
    cluster.no_log = True
    run_id = place.launch(place.launch_of(shell("echo said")))
    wait_for(lambda: place.executor.poll() and asked(cluster, "GET pods log"))
    assert place.executor.poll() == {run_id: Liveness.ALIVE}
    later(place, 610)
    end = place.ended(run_id)
    assert (end.exit_code, end.detail) == (0, "its log could not be brought back")


def test_a_log_has_its_beginning_and_its_end(tmp_path: Path) -> None:
    with Output(tmp_path / "log", 600) as output:
        for number in range(1000):
            output.take(f"{number}\n".encode())
    text = (tmp_path / "log").read_text()
    assert text.startswith("0\n1\n2\n")
    assert text.endswith("998\n999\n")
    assert "bytes of output are left out here: a run's log has 600 at most]" in text
    assert len(text) < 700
    assert (tmp_path / "log").stat().st_mode & 0o777 == 0o600


# -- what a Job is


def test_a_run_finds_its_recipe_and_its_task_and_its_words_are_left_as_they_are(place: KubePlace) -> None:
    files = (
        RecipeFile(path="recipes/ada.yaml", blob="a" * 40, text="title: Ada\nprompt: Do it\n"),
        RecipeFile(path="recipes/sub/one.yaml", blob="b" * 40, text="title: Sub é\n"),
    )
    recipe = Recipe(path="recipes/ada.yaml", title="Ada", prompt="Do it", files=files)
    script = 'cat "$0" "${0%/*}/sub/one.yaml"; cat "$TSCHED_TASK_FILE"; printf %s "$1"'
    runtime = Runtime(name="x", argv=("/bin/sh", "-c", script, "{recipe}", "$$ $(TSCHED_RUN_ID) $(x) ${y}"))
    run_id = place.launch(place.launch_of(runtime, recipe=recipe))
    assert place.ended(run_id).exit_code == 0
    log = place.log(run_id)
    assert log.startswith("title: Ada\nprompt: Do it\ntitle: Sub é\n")
    assert '"title": "Mend the gate"' in log
    assert log.endswith("$$ $(TSCHED_RUN_ID) $(x) ${y}")


def test_what_a_job_asks_for(place: KubePlace, cluster: Cluster) -> None:
    cluster.secrets = {"keys": {}, "registry": {}}
    wanted = Kubernetes(
        image=IMAGE, service_account="agent", user=1000, node_selector=(("disk", "ssd"),), secrets=("keys",),
        pull_secrets=("registry",), ttl=60.0,
    )  # fmt: skip
    resources = Resources(cpus=0.5, memory=1 << 30)
    launch = place.launch_of(shell("true"), kubernetes=wanted, resources=resources, max_runtime=90.5, stop_grace=20)
    place.launch(launch)
    job = place.job()
    spec, pod = job["spec"], job["spec"]["template"]["spec"]
    assert job["metadata"]["name"] == place.run_id
    assert (spec["backoffLimit"], spec["podReplacementPolicy"], spec["ttlSecondsAfterFinished"]) == (0, "Failed", 60)
    assert (pod["restartPolicy"], pod["activeDeadlineSeconds"], pod["terminationGracePeriodSeconds"]) == (
        "Never",
        91,
        20,
    )
    assert (pod["serviceAccountName"], pod["automountServiceAccountToken"]) == ("agent", True)
    assert (pod["nodeSelector"], pod["imagePullSecrets"]) == ({"disk": "ssd"}, [{"name": "registry"}])
    assert pod["securityContext"]["runAsNonRoot"]
    asked_for = {"cpu": "500m", "memory": "1073741824"}
    assert pod["containers"][0]["resources"] == {"requests": asked_for, "limits": asked_for}


def test_an_account_that_is_not_named_gives_no_token(place: KubePlace) -> None:
    place.launch(place.launch_of(shell("true")))
    assert place.job()["spec"]["template"]["spec"]["automountServiceAccountToken"] is False


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda one: replace(one, kubernetes=Kubernetes()), "no image is named"),
        (lambda one: replace(one, recipe=replace(one.recipe, checks=("make",))), "checks, which nobody can make"),
        (
            lambda one: replace(one, recipe=replace(one.recipe, env_keys=("KEY",))),
            "KEY: name its Secret in kubernetes",
        ),
        (
            lambda one: replace(one, recipe=replace(one.recipe, files=(big(),))),
            "come to 205[0-9]{3} bytes, and a pod can be given 200Ki",
        ),
    ],
)
def test_what_could_never_run_is_refused_before_the_claim(
    place: KubePlace, change: Callable[..., object], words: str
) -> None:
    with pytest.raises(ConfigurationError, match=words):
        place.executor.prepare(change(place.launch_of(shell("true"))))  # type: ignore[arg-type]
    assert list(place.runs.iterdir() if place.runs.exists() else ()) == []


def big() -> RecipeFile:
    return RecipeFile(path="recipes/vaela.yaml", blob="c" * 40, text="#" * 205_000)


def test_a_variable_that_a_secret_may_hold_is_not_missed(place: KubePlace) -> None:
    launch = place.launch_of(shell("true"), kubernetes=Kubernetes(image=IMAGE, secrets=("keys",)))
    place.executor.prepare(replace(launch, recipe=replace(launch.recipe, env_keys=("KEY",))))


def test_the_runs_job_goes_with_its_record(place: KubePlace, cluster: Cluster) -> None:
    run_id = place.launch(place.launch_of(shell("true")))
    place.ended(run_id)
    place.executor.discard(run_id, succeeded=True)
    assert cluster.all("jobs") == cluster.all("pods") == []
    assert place.executor.poll() == {}


def test_other_runs_stay_where_they_are(place: KubePlace) -> None:
    run_id = place.launch(place.launch_of(shell(WAITS), engine="local"))
    place.until_running()
    pid = place.lease()["pid"]
    assert isinstance(pid, int)
    assert place.executor.poll() == {run_id: Liveness.ALIVE}
    os.kill(pid, signal.SIGTERM)
    assert place.ended(run_id).reason is ExitReason.STOPPED
    assert place.cluster.asked == []
