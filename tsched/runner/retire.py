"""Step 7b: removed agents on their way from cordon to deletion."""

from tsched.model.errors import TransientError
from tsched.model.fleet import OnDeadline
from tsched.model.lifecycle import AgentState, Lifecycle
from tsched.model.run import ExitReason
from tsched.runner.record import Pass
from tsched.schedule.drain import progress, put_right
from tsched.state import applied as applied_store
from tsched.state import history


def drain(p: Pass) -> None:
    """Move each removed agent as far as it can go now; one durable commit for all."""
    before = p.applied.lifecycles
    after: dict[str, dict[str, Lifecycle]] = {}
    for row in before.leaving:
        moved = _advance(p, put_right(row, p.now))
        if moved == row:
            continue
        rows = after.setdefault(row.queue, dict(before.queues[row.queue]))
        if moved is None:
            del rows[row.agent]
        else:
            rows[row.agent] = moved
    if after:
        with p.commit():
            p.applied = applied_store.put_lifecycles(p.host.db, p.applied, before.replaced(after))


def _advance(p: Pass, row: Lifecycle) -> Lifecycle | None:
    """Follow the table until it asks to wait. Each transition is an event."""
    runs = [run_id for run_id, run in p.runs.items() if (run.agent, run.queue) == row.key]
    _ask_to_stop(p, row, runs)
    stopping = any(p.host.executor.stopping(run_id) for run_id in runs)
    unacknowledged = sum(
        (result.run.agent, result.run.queue) == row.key for result in history.unacknowledged(p.host.db)
    )
    current: Lifecycle | None = row
    while current is not None:
        handed_back = current.state is AgentState.DRAINED and _hand_back(p, current)
        following = progress(
            current, live=len(runs), unacknowledged=unacknowledged, stopping=stopping,
            handed_back=handed_back, now=p.now,
        )  # fmt: skip
        if following == current:
            return current
        _tell(p, current, following, len(runs))
        current = following
    return None


def _ask_to_stop(p: Pass, row: Lifecycle, runs: list[str]) -> None:
    """The deadline is left with each run's shim, so that it holds with the runner down."""
    policy = row.policy
    if policy is None or row.deadline is None or policy.on_deadline is OnDeadline.WAIT:
        return
    if not row.again and runs:
        p.host.executor.stop(runs, reason=ExitReason.DRAIN, at=row.deadline)


def _hand_back(p: Pass, row: Lifecycle) -> bool:
    """Take a deleted agent off its waiting tasks; an agent that is in the fleet elsewhere keeps them."""
    if p.applied.fleet is not None and p.applied.fleet.find(row.agent) is not None:
        return True
    try:
        handed = p.host.tasks.hand_back(agent=row.agent, queue=row.queue)
    except TransientError as error:
        p.fault("drain", f"agent {row.agent} stays drained, its tasks can't be handed back: {{}}", error)
        return False
    if handed:
        p.log.info(f"Handed back {handed} tasks of agent '{row.agent}' to queue '{row.queue}'")
    return True


def _tell(p: Pass, before: Lifecycle, after: Lifecycle | None, live: int) -> None:
    state = "deleted" if after is None else str(after.state)
    p.log.info(f"Agent '{before.agent}' in queue '{before.queue}': {before.state} -> {state}, {live} runs")
    p.event(
        f"agent.{state}", f"agent/{before.agent}", f"{before.agent} in {before.queue}: {before.state} → {state}",
        queue=before.queue, pool=before.pool, runs=live,
    )  # fmt: skip
