"""Who is told of alerts holds nobody up: servers that drip, programs that hang, more messages than time."""

import socket
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from tsched.executors.told import tell
from tsched.model.alert import Alert, AlertCommand, Alerts, AlertSeverity, AlertStep, AlertTransition
from tsched.model.errors import ConfigurationError, TransientError
from tsched.observe.notify import post
from tsched.runner import tell as telling
from tsched.runner.cycle import begin
from tsched.runner.host import open_host
from tsched.settings import load
from tsched.state import alarms


@contextmanager
def dripping() -> Iterator[str]:
    """A server whose answer never ends: a byte of a header now and then, until the client is gone."""
    gone = threading.Event()

    def serve(listening: socket.socket) -> None:
        client, _ = listening.accept()
        with client:
            client.sendall(b"HTTP/1.1 200 OK\r\nX-Long: ")
            try:
                while not gone.wait(0.05):
                    client.sendall(b"x")
            except OSError:
                gone.set()

    with socket.create_server(("127.0.0.1", 0)) as listening:
        thread = threading.Thread(target=serve, args=(listening,), daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{listening.getsockname()[1]}/secret"
        assert gone.wait(30), "the connection is given up with the call"
        thread.join()


def test_a_webhook_that_drips_is_given_up_and_its_address_is_not_said() -> None:
    with dripping() as url, pytest.raises(TransientError, match="does not answer within") as caught:
        post(url, {}, timeout=0.3)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("proxy", ["nonsense://127.0.0.1", "http://[::"])
def test_a_proxy_that_is_none_is_said(monkeypatch: pytest.MonkeyPatch, proxy: str) -> None:
    monkeypatch.setenv("ALL_PROXY", proxy)
    with pytest.raises(ConfigurationError, match="proxy variables"):
        post("https://example.invalid/", {})


def test_a_command_that_hangs_is_ended_and_one_that_cannot_be_told_is_named() -> None:
    with pytest.raises(TransientError, match="did not end"):
        tell(["sh", "-c", "sleep 60 & wait"], b"", environ={"PATH": "/usr/bin:/bin"}, timeout=0.3)
    with pytest.raises(ConfigurationError, match="null byte"):
        tell(["true"], b"", environ={"TSCHED_ALERT_SUMMARY": "a\0b"})


def fired(number: int) -> AlertTransition:
    alert = Alert(
        fingerprint=str(number), rule="r", severity=AlertSeverity.WARNING, subject=f"queue/{number}", summary="deep",
        since=0.0,
    )  # fmt: skip
    return AlertTransition(step=AlertStep.FIRED, alert=alert, at=0.0)


@pytest.mark.parametrize(("budget", "most", "heard"), [(99.0, 9, "012"), (0.0, 9, ""), (99.0, 2, "12")])
def test_a_pass_tells_what_it_has_time_for_and_the_oldest_of_too_many_are_given_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, budget: float, most: int, heard: str
) -> None:
    monkeypatch.setattr(telling, "BUDGET", budget)
    monkeypatch.setattr(telling, "MOST", most)
    alerts = Alerts(
        commands=(AlertCommand(argv=("sh", "-c", f'printf "${{TSCHED_ALERT_SUBJECT#*/}}" >> {tmp_path}/h')),)
    )
    (sink,) = telling.sinks(alerts)
    settings = load(
        environ={"TSCHED_REPO": str(tmp_path), "TSCHED_STATE": str(tmp_path / "state"), "PATH": "/usr/bin:/bin"}
    )
    with closing(open_host(settings)) as host, host.log.reconciliation_pass() as log:
        host.clock = lambda: 1.0
        p = begin(host, log)
        for number in range(3):
            with host.db.transaction():
                alarms.post(host.db, sink, fired(number))
        telling.deliver(p, alerts)
        left = [one.told.alert.fingerprint for one in alarms.waiting(host.db)]
    path = tmp_path / "h"
    assert (path.read_text() if path.exists() else "") == heard
    assert left == ([] if heard else ["0", "1", "2"])
