"""How the runs of one revision fared beside those of the revision before it."""

from collections.abc import Mapping, Sequence

from tsched.model.blame import Origin
from tsched.model.records import dataclass
from tsched.model.run import RunResult
from tsched.schedule.plan import Row
from tsched.schedule.rates import Comparison, Shown, compare
from tsched.schedule.workload import By, Summary, grouped, succeeded, summary


@dataclass(frozen=True, slots=True, kw_only=True)
class Fared:
    """Two sets of runs and what their success rates show. `changed`: whether what the recipes say differs too."""

    before: Summary
    after: Summary
    comparison: Comparison
    changed: bool = False

    @property
    def differs(self) -> bool:
        """Whether there is something to look at: a rate that differs, or another recipe."""
        return self.changed or self.comparison.verdict in (Shown.BETTER, Shown.WORSE)


def fared(before: Sequence[RunResult], after: Sequence[RunResult]) -> Fared:
    """Both oldest first. A run counts where it ended by its own doing."""
    return Fared(
        before=summary(before),
        after=summary(after),
        comparison=compare(succeeded(before), succeeded(after)),
        changed=bool(before and after) and _contents(before) != _contents(after),
    )


def fared_by(before: Sequence[RunResult], after: Sequence[RunResult], by: By) -> Mapping[str, Fared]:
    """Group by group, those that only one side has too."""
    old, new = grouped(before, by), grouped(after, by)
    return {name: fared(old.get(name, []), new.get(name, [])) for name in sorted(old.keys() | new.keys())}


def _contents(results: Sequence[RunResult]) -> frozenset[tuple[str, str]]:
    return frozenset((one.run.recipe, one.run.content) for one in results)


@dataclass(frozen=True, slots=True, kw_only=True)
class RevisionBlame:
    """All that a revision ran beside the one before it that ran anything (None: there is none).

    `changes`: between the two; `unknown`: why those are not known, "" where they are.
    """

    origin: Origin
    before: Origin | None
    whole: Fared
    groups: Mapping[By, Mapping[str, Fared]]
    changes: tuple[Row, ...] = ()
    unknown: str = ""
