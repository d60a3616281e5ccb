"""`alerts:` from the file to the fleet, there and back through storage, and in words."""

import msgspec
import pytest
from hypothesis import given

from tests.integration.corpus import ROOT, read
from tests.unit.strategies import fleets
from tsched.model.alert import (
    AlertCommand,
    Alerts,
    AlertSeverity,
    DepthRule,
    DrainRule,
    ErrorsRule,
    NoAssignmentRule,
    RemoteRule,
    RevisionRule,
    UnservedRule,
    Webhook,
    WebhookFormat,
)
from tsched.model.change import diff
from tsched.model.files import RepoFile, RepoFiles
from tsched.model.fleet import Fleet, Limits
from tsched.model.words import describe
from tsched.validate.fleet import load_fleet


def loaded(name: str) -> Fleet:
    files = read(ROOT / "good" / f"{name}.txtar").files
    entries = {path: RepoFile(path=path, blob=path, size=len(data)) for path, data in files.items()}
    fleet = load_fleet(RepoFiles(revision="r", entries=entries, read=lambda file: files[file.path])).fleet
    assert fleet is not None
    return fleet


EVERY = Alerts(
    depth=(
        DepthRule(name="any-deep", above=100),
        DepthRule(name="dev-deep", above=10, queue="dev", wait=600.0, severity=AlertSeverity.CRITICAL, repeat=3600.0),
    ),
    no_assignment=(NoAssignmentRule(name="nothing-starts", passes=3),),
    errors=(ErrorsRule(name="many-errors", above=20, window=1800.0),),
    unserved=(UnservedRule(name="nobody-serves", queue="extra", wait=300.0),),
    drain=(DrainRule(name="drain-late"),),
    revision=(RevisionRule(name="revision-refused"),),
    remote=(RemoteRule(name="remote-silent", wait=300.0),),
    webhooks=(
        Webhook(url_env="SLACK_WEBHOOK_URL", format=WebhookFormat.SLACK),
        Webhook(url="https://alerts.example.org/tsched"),
    ),
    commands=(AlertCommand(argv=("notify-send", "tsched")),),
)


def test_every_key_arrives() -> None:
    assert loaded("every-key-of-limits").limits.alerts == EVERY
    assert [rule.name for rule in EVERY.rules] == sorted(rule.name for rule in EVERY.rules)
    assert len(EVERY.rules) == 8


def test_without_alerts_there_are_no_rules_and_the_log_is_told() -> None:
    assert loaded("smallest").limits.alerts == Alerts()
    assert Alerts().log


@pytest.mark.parametrize("alerts", [Alerts(), EVERY])
def test_rules_of_every_kind_are_stored_and_read_back(alerts: Alerts) -> None:
    fleet = Fleet(revision="r", limits=Limits(alerts=alerts))
    assert msgspec.json.decode(msgspec.json.encode(fleet), type=Fleet) == fleet


def test_a_fleet_stored_before_there_were_alerts_is_read() -> None:
    stored = b'{"revision": "r", "limits": {"max_running": 3}}'
    assert msgspec.json.decode(stored, type=Fleet).limits.alerts == Alerts()


@given(fleets())
def test_any_fleet_is_stored_and_read_back(fleet: Fleet) -> None:
    assert msgspec.json.decode(msgspec.json.encode(fleet), type=Fleet) == fleet


def test_a_change_of_rules_names_them() -> None:
    old = Alerts(depth=(DepthRule(name="deep", above=1),), drain=(DrainRule(name="late"),))
    new = Alerts(depth=(DepthRule(name="deep", above=2),), remote=(RemoteRule(name="gone"),), log=False)
    before, after = (Fleet(revision="r", limits=Limits(alerts=one)) for one in (old, new))
    (change,) = diff(before, after)
    assert change.subject == "limits/alerts"
    assert describe(change) == "alerts: +gone, -late, deep changed, who is told"
