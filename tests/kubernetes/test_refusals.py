"""Who may ask a real API server, and which one is not used."""

from pathlib import Path

import pytest

from tests.integration.executor_contract import WAITS
from tests.integration.kube_place import let_go, running
from tests.integration.local_runs import shell, wait_for
from tests.kubernetes.control import NAMESPACE, Control
from tests.kubernetes.place import RealPlace
from tsched.executors import reach
from tsched.model.errors import ConfigurationError, TransientError
from tsched.model.run import ExitReason


class TestTooOld:
    """Kubernetes 1.20 knows no podReplacementPolicy."""

    def test_it_is_not_used(self, place: RealPlace) -> None:
        place.strict()
        with pytest.raises(ConfigurationError, match=r"Kubernetes 1\.29 or newer is needed"):
            place.executor.prepare(place.launch_of(shell("true")))
        assert place.all("jobs") == []
        assert "Kubernetes 1.29 or newer is needed" in reach.kubernetes("", "", place.environ)

    def test_it_makes_a_second_pod_beside_the_first_that_still_runs(self, place: RealPlace, control: Control) -> None:
        running(place, f"trap '' TERM; {WAITS}")
        (pod,) = place.all("pods")
        name = pod["metadata"]["name"]
        control.ask("DELETE", f"/api/v1/namespaces/{NAMESPACE}/pods/{name}")
        both = wait_for(lambda: found if len(found := place.all("pods")) == 2 else None)
        assert name in [one["metadata"]["name"] for one in both]
        let_go(place)


def use(place: RealPlace, config: Path) -> None:
    place.environ = {**place.environ, "KUBECONFIG": str(config)}
    place.executor = place.another()


def test_a_client_certificate_does(place: RealPlace, control: Control) -> None:
    use(place, control.kubeconfig("certified", control.certificate("runner")))
    assert place.ended(place.launch(place.launch_of(shell("exit 3")))).exit_code == 3


def test_an_accounts_token_does_where_the_account_may(place: RealPlace, control: Control) -> None:
    use(place, control.kubeconfig("account", {"token": control.account_token()}))
    end = place.ended(place.launch(place.launch_of(shell("true"))))
    assert (end.reason, end.started) == (ExitReason.START_FAILED, False)
    assert f'User "system:serviceaccount:{NAMESPACE}:default" cannot create resource "jobs"' in end.detail


@pytest.mark.parametrize(
    ("user", "words"), [({"token": "wrong"}, "Unauthorized"), ({"token": "x"}, "CERTIFICATE_VERIFY_FAILED")]
)
def test_who_is_not_let_in_is_told_in_a_line(
    place: RealPlace, control: Control, user: dict[str, str], words: str
) -> None:
    config = control.kubeconfig("stranger", user)
    if words != "Unauthorized":
        config.write_text(config.read_text().replace(str(control.cert), str(stranger(control))))
    use(place, config)
    with pytest.raises(TransientError, match=words):
        place.launch(place.launch_of(shell("true")))
    place.executor.poll()
    assert words in place.executor.trouble()
    assert "\n" not in place.executor.trouble()


def stranger(control: Control) -> Path:
    """The certificate of an authority that nobody here knows."""
    control._openssl("-subj", "/CN=nobody", key=control.root / "x.key", cert=control.root / "x.pem")
    return control.root / "x.pem"
