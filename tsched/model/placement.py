"""Where a run executes, and what a cluster engine is told about it."""

from collections.abc import Mapping
from dataclasses import fields, replace
from enum import StrEnum

from tsched.model.records import dataclass
from tsched.model.units import format_duration


class Engine(StrEnum):
    """What executes runs."""

    LOCAL = "local"  # processes of the runner's own machine
    SLURM = "slurm"  # jobs of a Slurm cluster
    KUBERNETES = "kubernetes"  # Jobs of a Kubernetes cluster


@dataclass(frozen=True, slots=True, kw_only=True)
class Slurm:
    """What a run's job asks Slurm for beside its resources; "": what the cluster does by itself.

    `time`: seconds after which Slurm ends the job; None: when all of the run must be over by its own limits.
    `shared`: whether nodes have the state folder too; None: they do.
    """

    partition: str = ""
    account: str = ""
    qos: str = ""
    constraint: str = ""
    reservation: str = ""
    gres: str = ""
    time: float | None = None
    shared: bool | None = None

    @property
    def apart(self) -> bool:
        """Whether nodes don't share the state folder."""
        return self.shared is False

    def over(self, base: "Slurm") -> "Slurm":
        """These, and of `base` what is not said here."""
        said = {one.name: value for one in fields(self) if (value := getattr(self, one.name)) not in ("", None)}
        return replace(base, **said)

    def said(self) -> Mapping[str, str | float | bool]:
        """What is asked for, by key."""
        return {one.name: value for one in fields(self) if (value := getattr(self, one.name)) not in ("", None)}

    def __str__(self) -> str:
        said = self.said().items()
        return " ".join(f"{key}={_shown(one)}" for key, one in said) or "none"


def _shown(value: str | float | bool) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return value if isinstance(value, str) else format_duration(value)


@dataclass(frozen=True, slots=True, kw_only=True)
class Kubernetes:
    """What a run's Job asks Kubernetes for beside its resources; "" and None: what the cluster does by itself.

    `env`: variables, each with `secret/key`. `start_within`, `ttl`: seconds.
    """

    image: str = ""
    context: str = ""
    namespace: str = ""
    service_account: str = ""
    user: int | None = None
    node_selector: tuple[tuple[str, str], ...] = ()
    secrets: tuple[str, ...] = ()
    env: tuple[tuple[str, str], ...] = ()
    pull_secrets: tuple[str, ...] = ()
    start_within: float | None = None
    ttl: float | None = None

    def over(self, base: "Kubernetes") -> "Kubernetes":
        """These, and of `base` what is not said here."""
        said = {one.name: value for one in fields(self) if (value := getattr(self, one.name)) not in ("", None, ())}
        return replace(base, **said)

    def __str__(self) -> str:
        said = ((one.name, getattr(self, one.name)) for one in fields(self))
        return " ".join(f"{key}={_word(value)}" for key, value in said if value not in ("", None, ())) or "none"


def _word(value: str | float | tuple[str | tuple[str, str], ...]) -> str:
    if isinstance(value, tuple):
        return ",".join(one if isinstance(one, str) else ":".join(one) for one in value)
    return format_duration(value) if isinstance(value, float) else str(value)
