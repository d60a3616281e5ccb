"""Step 7a: look at every run there is, settle those that ended, recover those that are lost."""

from collections.abc import Iterable, Mapping, Sequence

from tsched.executors.executor import Executor, Liveness
from tsched.model.run import Run, RunExit
from tsched.runner.record import Pass
from tsched.runner.settle import settle_all

SOME = 50  # lost runs that are recovered before the next step


def survey(p: Pass) -> None:
    """Look at every run there is a record of: who it is and whether it lives."""
    executor = p.host.executor
    p.surveyed = executor.poll()
    p.liveness = dict(p.surveyed)
    if words := executor.trouble():
        p.error("executor", f"{words}; its runs are left as they are")
    p.recorded = p.host.kept(_recorded, executor, p.surveyed)
    if len(p.recorded) < len(p.surveyed):  # a record that could not be read may be by now
        p.recorded = _recorded(executor, p.surveyed)
    p.runs = dict(p.recorded)


def _recorded(executor: Executor, run_ids: Iterable[str]) -> Mapping[str, Run]:
    return {run_id: run for run_id in run_ids if (run := executor.run(run_id)) is not None}


def _those(surveyed: Mapping[str, Liveness], wanted: Liveness) -> Sequence[str]:
    return [run_id for run_id, state in surveyed.items() if state is wanted]


def reap(p: Pass) -> None:
    """Settle each run whose end is on record, and go on with what earlier ones left to remove."""
    executor = p.host.executor
    with p.guarded("workspaces", kind="workspace"):
        executor.tidy()
    ended = p.host.kept(_those, p.surveyed, Liveness.ENDED, of="ended")
    settle_all(p, {run_id: end for run_id in ended if (end := executor.exit(run_id)) is not None})


def recover(p: Pass) -> None:
    """Fence each lost run, kill what is left of it, then settle it like any other."""
    lost = p.host.kept(_those, p.surveyed, Liveness.LOST, of="lost")
    for start in range(0, len(lost), SOME):
        if start and p.late():
            p.log.info(f"{len(lost) - start} more stale leases are left to the next pass")
            return
        settle_all(p, _recovered(p, lost[start : start + SOME]))


def _recovered(p: Pass, lost: Sequence[str]) -> Mapping[str, RunExit]:
    ends: dict[str, RunExit] = {}
    for run_id in lost:
        end = p.host.executor.recover(run_id)
        if end is None:
            p.log.warning(f"Run {run_id} is lost but something of it still lives; asking again next pass")
            continue
        ends[run_id] = end
        if run_id in p.runs:
            task = p.runs[run_id].task_id
            p.log.warning(f"Stale lease detected: task={task}, agent={p.runs[run_id].agent}, reason={end.reason}")
            p.log.count(leases_reclaimed=1)
    return ends
