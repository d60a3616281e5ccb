"""The rule about where runs execute: what Slurm is told must leave a run its own time."""

import math
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from tsched.model.diagnostic import Diagnostic
from tsched.model.fleet import Limits
from tsched.model.placement import Engine
from tsched.model.units import format_duration
from tsched.validate.values import mapping, seconds
from tsched.validate.written import Written

if TYPE_CHECKING:
    from tsched.validate.source import Path


def job_times(pools: Sequence[Written], limits: Limits) -> Iterator[Diagnostic]:
    """TS321"""
    for pool in pools:
        defaults = mapping((pool.value or {}).get("defaults"))
        for index, agent in enumerate(pool.agents):
            given = {**defaults, **agent}
            own, shared = (mapping(one.get("slurm")) for one in (agent, defaults))
            limit = seconds({**shared, **own}.get("time"), limits.slurm.time or math.inf)
            needed = seconds(given.get("max_runtime"), limits.max_runtime) + limits.stop_grace
            if str(given.get("executor", limits.executor)) != Engine.SLURM or limit >= needed:
                continue
            path: Path = ["agents", index, *(["slurm", "time"] if "time" in own else ["name"])]
            message = (
                f"Slurm would end runs of {agent['name']} after {format_duration(limit)}, before max_runtime and "
                f"stop_grace, {format_duration(needed)}, are over."
            )
            enough = format_duration(60 * math.ceil(needed / 60))
            mend = f"Set slurm.time to {enough} or more, leave it out, or lower max_runtime."
            yield pool.at("TS321", path, message, mend)
