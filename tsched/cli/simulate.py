"""`tsched simulate`: what a change of the fleet would do to a load."""

import time
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from tsched.cli.call import commits_of, settings_of, since_of
from tsched.cli.output import JSON, SINCE, print_json
from tsched.model.errors import ConfigurationError


class Spread(StrEnum):
    LOGNORMAL = "lognormal"
    EXPONENTIAL = "exponential"


def simulate(
    ctx: typer.Context,
    revision: Annotated[
        str | None, typer.Argument(metavar="[REV]", help="Compared with what is applied, else with its parent.")
    ] = None,
    tasks: Annotated[
        str,
        typer.Option("--tasks", metavar="RECORDED|SYNTHETIC|FILE", help="This host's history, tasks drawn at random, "
                     "or JSON lines of {queue, at, seconds[, priority, agent, failures]}."),
    ] = "RECORDED",
    scale: Annotated[float, typer.Option("--scale", metavar="N", help="So many times the tasks.")] = 1.0,
    since: Annotated[str, SINCE] = "7d",
    base: Annotated[
        str | None, typer.Option("--base", metavar="REV", help="Compare with this revision instead.")
    ] = None,
    save: Annotated[
        str | None, typer.Option("--save", metavar="FILE", help="Write the tasks there, for --tasks elsewhere.")
    ] = None,
    seed: Annotated[int, typer.Option("--seed", help="The same seed draws the same tasks.")] = 1,
    span: Annotated[str, typer.Option("--for", metavar="TIME", help="SYNTHETIC: how long tasks come.")] = "1d",
    rate: Annotated[
        list[str] | None,
        typer.Option("--rate", metavar="QUEUE=N:TIME", help="SYNTHETIC: N tasks an hour, runs of TIME on average."),
    ] = None,
    busy: Annotated[
        str, typer.Option("--busy", metavar="N%", help="SYNTHETIC without --rate: slots in use on average.")
    ] = "80%",
    duration: Annotated[
        str, typer.Option("--duration", metavar="TIME", help="SYNTHETIC without --rate: the mean run.")
    ] = "10m",
    spread: Annotated[
        Spread, typer.Option("--spread", help="SYNTHETIC: how durations vary, by as much as their mean.")
    ] = Spread.LOGNORMAL,
    agents: Annotated[
        int | None, typer.Option("--agents", min=1, max=1_000_000, help="A made-up fleet of so many agents.")
    ] = None,
    as_json: Annotated[bool, JSON] = False,
) -> None:  # fmt: skip
    """Estimate waits, queue depths and use of pools under a load, before and after a change. Nothing is started.

    The real decisions over simulated time: what would this revision do to last week's load?
    """
    from tsched.observe.simulated import simulated_object, simulated_tables, simulated_words
    from tsched.observe.tables import show
    from tsched.runner.simulate import Wish, simulated, write_load
    from tsched.schedule.load import Shape

    settings, now = settings_of(ctx), time.time()
    if not 0 < scale <= 1e6:
        raise ConfigurationError(f"--scale is {scale:g}: give a number above 0, such as 2 or 0.5")
    wish = Wish(
        tasks=tasks, revision=revision, base=base, agents=agents, scale=scale, seed=seed,
        span=_seconds("--for", span), rates=dict(map(_rate, rate or ())), busy=_part(busy),
        seconds=_seconds("--duration", duration), shape=Shape(spread),
    )  # fmt: skip
    found = simulated(settings, wish, lambda: commits_of(settings), since=since_of(since, now), now=now)
    if save is not None:
        write_load(Path(save), found.load)
    if as_json:
        print_json(simulated_object(found.load, seed, found.before, found.after))
        return
    show(simulated_tables(found.load, found.before, found.after))
    print()
    for line in simulated_words(found.load, found.before, found.after):
        print(line)


def _seconds(flag: str, text: str) -> float:
    from tsched.model.units import parse_duration

    try:
        seconds = parse_duration(text)
    except ValueError as error:
        raise ConfigurationError(f"{flag}: {error}") from None
    if not 0 < seconds <= 1e9:
        raise ConfigurationError(f"{flag} is {text}: give a time above 0, such as 10m")
    return seconds


def _part(text: str) -> float:
    number = text.removesuffix("%")
    if not number.isdecimal() or not 0 < int(number) <= 1000:
        raise ConfigurationError(f"--busy is {text!r}: give a percentage above 0, such as 80%")
    return int(number) / 100


def _rate(text: str) -> tuple[str, tuple[float, float]]:
    """Tasks a second and seconds of a run, by queue."""
    queue, _, rest = text.rpartition("=")
    number, _, lasts = rest.partition(":")
    wrong = f"--rate is {text!r}: write QUEUE=N:TIME, such as dev=120:10m for 120 tasks an hour of 10 minutes"
    try:
        hourly, seconds = float(number), _seconds("--rate", lasts)
    except (ValueError, ConfigurationError):
        raise ConfigurationError(wrong) from None
    if not queue or not 0 < hourly <= 1e9:
        raise ConfigurationError(wrong)
    return queue, (hourly / 3600, seconds)
