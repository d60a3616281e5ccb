"""A sound file of pools/ as it was written, with a way to point into it."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

from tsched.model.diagnostic import Diagnostic, Severity
from tsched.validate.source import Path, Source
from tsched.validate.values import Mapped, items, mapping, whole


def recipe_path(agent: Mapped) -> str:
    """Where an agent's recipe is in the repo."""
    return f"recipes/{agent.get('recipe') or str(agent['name']) + '.yaml'}"


@dataclass
class Written:
    """One such file. What it says of a pool is as written: defaults are applied by each property."""

    source: Source
    value: Mapped | None

    def at(
        self, code: str, path: Path, message: str, mend: str, *, severity: Severity = Severity.ERROR
    ) -> Diagnostic:
        line, column = self.source.place(path)
        return Diagnostic(
            path=self.source.name, line=line, column=column, code=code, message=message, mend=mend, severity=severity
        )

    @cached_property
    def name(self) -> str:
        return str((self.value or {}).get("name", ""))

    @cached_property
    def queue(self) -> str:
        return str((self.value or {}).get("queue", self.name))

    @cached_property
    def cap(self) -> int | None:
        """The pool's own max_running."""
        value = self.value or {}
        return whole(value["max_running"], 0) if "max_running" in value else None

    def limit(self, agent: Mapped) -> int:
        """An agent's slots, the pool's defaults applied."""
        return whole(agent.get("limit", mapping((self.value or {}).get("defaults")).get("limit")), 1)

    @cached_property
    def agents(self) -> Sequence[Mapped]:
        return [mapping(one) for one in items((self.value or {}).get("agents"))]
