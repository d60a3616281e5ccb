"""Where a run executes, and what a cluster engine is told about it."""

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from enum import StrEnum

from tsched.model.units import format_duration


class Engine(StrEnum):
    """What executes runs."""

    LOCAL = "local"  # processes of the runner's own machine
    SLURM = "slurm"  # jobs of a Slurm cluster


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
