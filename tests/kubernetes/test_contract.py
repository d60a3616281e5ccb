"""The contract of executors, over Jobs of a real API server."""

from tests.integration.executor_contract import ExecutorContract
from tests.integration.local_runs import Place, shell
from tests.kubernetes.place import RealPlace
from tsched.model.placement import Kubernetes


class TestKubernetes(ExecutorContract):
    def test_an_agent_sees_its_own_variables_and_none_of_the_hosts(self, place: Place) -> None:
        """Nor those of TSCHED_PASS_ENV: who may read a Job could read them. What it needs comes from Secrets."""
        assert isinstance(place, RealPlace)
        place.environ = {**place.environ, "TSCHED_TASKS_TOKEN": "canary", "GIVEN": "canary"}
        place.executor = place.another(pass_env=("GIVEN", "TSCHED_TASKS_TOKEN"))
        place.secret("keys", ALL="of them", api="k")
        place.secret("other", api="o$(ALL)")
        wanted = Kubernetes(image="i", secrets=("keys",), env=(("KEY", "other/api"),))
        place.launch(place.launch_of(shell("env"), kubernetes=wanted))
        assert "canary" not in str(place.job())
        place.ended(place.run_id)
        told = dict(line.partition("=")[::2] for line in place.log(place.run_id).splitlines())
        assert "canary" not in place.log(place.run_id)
        assert (told["ALL"], told["KEY"], told["TSCHED_RUN_ID"]) == ("of them", "o$(ALL)", place.run_id)

    def test_a_dead_shim_leaves_nothing_alive_and_its_end_is_found_once(self, place: Place) -> None:
        """There is no shim: see test_runs.py for what may happen to a node and to a runner."""
