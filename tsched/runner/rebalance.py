"""What would even out the use of agents, as a patch of the fleet repo."""

from dataclasses import dataclass

from tsched.gitops.changes import FleetFiles
from tsched.gitops.commits import Commits
from tsched.model.errors import ConfigurationError
from tsched.runner.look import fleet_at
from tsched.runner.propose import propose
from tsched.runner.workload import workload
from tsched.schedule.balance import Balance, balance
from tsched.schedule.forecast import LEAST, uses
from tsched.schedule.timeline import Window
from tsched.settings import Settings


@dataclass(frozen=True, slots=True, kw_only=True)
class Rebalance:
    """How evenly agents were used in a window, and the change of `revision` that would help ("": none)."""

    revision: str
    window: Window
    pools: tuple[Balance, ...]
    patch: str


def rebalance(settings: Settings, commits: Commits, *, since: float, now: float) -> Rebalance:
    """By the work since a time (seconds since the epoch), for the fleet as its repository has it now.

    Raises ConfigurationError where that fleet breaks rules, TransientError where it can't be read.
    """
    work = workload(settings, since=since, now=now)
    tip = commits.resolve("HEAD")
    fleet = fleet_at(commits, tip)
    window = work.window.seconds or LEAST
    pools = tuple(
        balance(pool.name, uses(pool, work.window, work.results, work.live), window=window) for pool in fleet.pools
    )
    limits = {agent: limit for one in pools for agent, limit in one.suggested.items()}
    return Rebalance(revision=tip, window=work.window, pools=pools, patch=_patch(commits, tip, limits))


def _patch(commits: Commits, revision: str, limits: dict[str, int]) -> str:
    files = commits.files(revision)
    proposal = propose(files, FleetFiles(files).set_limits(limits))
    if not proposal.sound:
        raise ConfigurationError(f"the suggested limits would break a rule: {proposal.diagnostics[0]}")
    return proposal.diff
