"""Alerts: the rules that a fleet has for them (`alerts:` in limits.yaml), who is told, and an alert itself.

A stored union of dataclasses can't be told apart when it is read back, so `Alerts` keeps each kind of rule by itself.
"""

from enum import StrEnum

from tsched.model.records import dataclass


class AlertSeverity(StrEnum):
    WARNING = "warning"
    CRITICAL = "critical"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Rule:
    """What all rules have. `wait` (`for:`): seconds that it must hold before anybody is told. `repeat`: seconds
    until they are told again while it lasts; None: once is enough."""

    name: str
    severity: AlertSeverity = AlertSeverity.WARNING
    wait: float = 0.0
    repeat: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class DepthRule(_Rule):
    """More than `above` tasks wait in a queue (None: in any one), blocked ones counted."""

    above: int
    queue: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class NoAssignmentRule(_Rule):
    """Nothing was started in so many passes in a row, though tasks were ready and not all slots were busy."""

    passes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ErrorsRule(_Rule):
    """More than `above` errors within the last `window` seconds."""

    above: int
    window: float


@dataclass(frozen=True, slots=True, kw_only=True)
class UnservedRule(_Rule):
    """Tasks wait in a queue (None: in any one) that no active agent serves."""

    queue: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class DrainRule(_Rule):
    """A drain's deadline has passed, and the agent still has runs."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RevisionRule(_Rule):
    """The newest revision is rejected or held, so that an older one stays in force."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RemoteRule(_Rule):
    """The fleet repo's remote does not answer."""


AlertRule = DepthRule | NoAssignmentRule | ErrorsRule | UnservedRule | DrainRule | RevisionRule | RemoteRule


class WebhookFormat(StrEnum):
    SLACK = "slack"  # {"text": …}, which Slack, Mattermost, Rocket.Chat and Discord's /slack take
    GENERIC = "generic"  # the alert's own fields


@dataclass(frozen=True, slots=True, kw_only=True)
class Webhook:
    """Told by HTTP POST. Exactly one of `url` and `url_env` (a variable of the runner's host) is set."""

    url: str = ""
    url_env: str = ""
    format: WebhookFormat = WebhookFormat.GENERIC


@dataclass(frozen=True, slots=True, kw_only=True)
class AlertCommand:
    """Told by starting a program, never through a shell."""

    argv: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Alerts:
    """A fleet's rules, each kind by name, and who is told. `log`: the runner's own log too."""

    depth: tuple[DepthRule, ...] = ()
    no_assignment: tuple[NoAssignmentRule, ...] = ()
    errors: tuple[ErrorsRule, ...] = ()
    unserved: tuple[UnservedRule, ...] = ()
    drain: tuple[DrainRule, ...] = ()
    revision: tuple[RevisionRule, ...] = ()
    remote: tuple[RemoteRule, ...] = ()
    webhooks: tuple[Webhook, ...] = ()
    commands: tuple[AlertCommand, ...] = ()
    log: bool = True

    @property
    def rules(self) -> tuple[AlertRule, ...]:
        """Every rule, by name."""
        kinds: tuple[tuple[AlertRule, ...], ...] = (
            self.depth, self.no_assignment, self.errors, self.unserved, self.drain, self.revision, self.remote,
        )  # fmt: skip
        return tuple(sorted((rule for kind in kinds for rule in kind), key=lambda rule: rule.name))


class AlertState(StrEnum):
    PENDING = "pending"  # it holds, but not for as long as its rule's `for:`
    FIRING = "firing"


@dataclass(frozen=True, slots=True, kw_only=True)
class Alert:
    """One thing that is wrong. `subject` such as `queue/dev`, `agent/ada`, `remote`; `summary`: words with numbers.

    `since`: seconds since the epoch from which it has been so. `told`: when anybody was last told, 0.0 for never.
    """

    fingerprint: str
    rule: str
    severity: AlertSeverity
    subject: str
    summary: str
    since: float
    state: AlertState = AlertState.FIRING
    told: float = 0.0


class AlertStep(StrEnum):
    """What is told of an alert."""

    FIRED = "fired"
    REMINDED = "reminded"
    RESOLVED = "resolved"


@dataclass(frozen=True, slots=True, kw_only=True)
class AlertTransition:
    """Something to tell. `at`: seconds since the epoch."""

    step: AlertStep
    alert: Alert
    at: float

    @property
    def words(self) -> str:
        """One line for a person: `critical dev-deep, queue/dev: 14 tasks wait …`."""
        lead = "resolved" if self.step is AlertStep.RESOLVED else str(self.alert.severity)
        return f"{lead} {self.alert.rule}, {self.alert.subject}: {self.alert.summary}"


def fingerprint(rule: str, subject: str) -> str:
    """The name of an alert, the same for as long as it is the same thing: 16 hexadecimal digits."""
    import hashlib  # it loads OpenSSL, and few commands need it

    return hashlib.sha256(f"{rule}\n{subject}".encode()).hexdigest()[:16]
