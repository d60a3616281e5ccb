"""`tsched agents`, `pools` and `queues`: who works, how well, and what waits."""

import time
from typing import TYPE_CHECKING, Annotated

import typer

from tsched.cli.call import settings_of, since_of
from tsched.cli.output import JSON, SINCE, print_json

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tsched.observe.tables import Table
    from tsched.schedule.queues import QueueWork
    from tsched.schedule.timeline import Window

AGAIN = 2.0  # seconds between two looks with --watch


def agents(
    ctx: typer.Context,
    pool: Annotated[str | None, typer.Option("--pool", metavar="POOL", help="Only that pool's.")] = None,
    as_json: Annotated[bool, JSON] = False,
) -> None:
    """Show each agent's slots, state, last run, and failures, duration and cost of the last 24 hours."""
    from tsched.model.errors import ConfigurationError
    from tsched.observe.activity import agent_object, agent_work, agents_table
    from tsched.observe.tables import show
    from tsched.runner.activity import activity

    now = time.time()
    seen = activity(settings_of(ctx), now=now)
    names = [one["name"] for one in seen.status["pools"]]
    if pool is not None and pool not in names:
        raise ConfigurationError(f"there is no pool {pool} (there are {', '.join(names) or 'none'})")
    work = agent_work(seen.status, seen.results, seen.last, pool=pool)
    if as_json:
        print_json([agent_object(one) for one in work])
    else:
        show([agents_table(work, now=now)], nothing="No agent: no fleet is applied here, or it has none.")


def pools(ctx: typer.Context, as_json: Annotated[bool, JSON] = False) -> None:
    """Show each pool's runs, slots, agents by state, suspension and drains, and how its last 24 hours went."""
    from tsched.observe.activity import pool_object, pools_table
    from tsched.observe.tables import show
    from tsched.runner.activity import activity
    from tsched.schedule.workload import By, Summary, grouped, summary

    seen = activity(settings_of(ctx), now=time.time())
    days = {queue: summary(results) for queue, results in grouped(seen.results, By.QUEUE).items()}
    if as_json:
        print_json([pool_object(one, days.get(one["queue"], Summary())) for one in seen.status["pools"]])
    else:
        show([pools_table(seen.status["pools"], days)], nothing="No pool: no fleet is applied here, or it has none.")


def queues(
    ctx: typer.Context,
    since: Annotated[str, SINCE] = "1h",
    watch: Annotated[bool, typer.Option("--watch", help="Look again every two seconds until interrupted.")] = False,
    as_json: Annotated[bool, JSON] = False,
) -> None:
    """Show each queue's depth now and over time, its oldest wait, and what was assigned, completed and failed.

    With --watch, JSON is one object a line.
    """
    from tsched.observe.queues import queues_object, queues_table
    from tsched.observe.tables import show
    from tsched.observe.tables import watch as repeat
    from tsched.runner.workload import queues as looked_at

    settings = settings_of(ctx)
    watched = None
    if watch:
        from tsched.runner.questions import Watch

        watched = Watch(settings=settings)

    def look() -> "tuple[Window, Sequence[QueueWork]]":
        now = time.time()
        return looked_at(settings, since=since_of(since, now), now=now, watch=watched)

    def tables() -> "Sequence[Table]":
        return [queues_table(*look())]

    if not as_json:
        repeat(tables, every=AGAIN) if watch else show(
            tables(), nothing="No queue: no fleet is applied here, no task waits."
        )
        return
    print_json(queues_object(*look()), line=watch)
    while watch:
        time.sleep(AGAIN)
        print_json(queues_object(*look()), line=True)
