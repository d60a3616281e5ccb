"""Where what a run ran came from."""

from tsched.model.commit import Commit
from tsched.model.records import dataclass
from tsched.model.run import Run, RunResult


@dataclass(frozen=True, slots=True, kw_only=True)
class Origin:
    """Where a revision comes from. `commit`: None where it is not among what was fetched (any more)."""

    revision: str
    commit: Commit | None
    pull_request: int | None = None
    address: str | None = None  # of the pull request, where the remote's address says it


@dataclass(frozen=True, slots=True, kw_only=True)
class RecipeThen:
    """A recipe as it was at a revision. `changed`: the commit that made it so."""

    path: str
    blob: str
    text: str
    changed: Commit | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempt:
    """One run of a task. `result`: None while it goes on. `recipe`: None where it is not to be had any more."""

    run: Run
    result: RunResult | None
    origin: Origin
    recipe: RecipeThen | None
