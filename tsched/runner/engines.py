"""Asks each cluster that agents' runs are for, and the server that their nodes need, whether it can be had."""

from collections.abc import Callable, Iterator
from functools import partial

from tsched.executors import reach
from tsched.limited import within
from tsched.model.errors import TransientError
from tsched.model.placement import Engine
from tsched.runner.seen import Look
from tsched.schedule.health import Place

PATIENCE = 3.0  # seconds for each


def places(seen: Look) -> Iterator[Place]:
    """Each once. Loads a cluster's client where an agent needs it, and nothing where all runs are local."""
    agents = [agent for _, agent in seen.fleet.agents()] if seen.fleet is not None else []
    environ = seen.settings.environ
    jobs = [agent for agent in agents if agent.executor is Engine.SLURM]
    if jobs:
        why = _asked(partial(reach.slurm, environ))
        yield Place(name="Slurm", problem=why, mend="install its commands, or look after slurmctld")
    if any(agent.slurm.apart for agent in jobs):
        yield from _apart(seen)
    pods = [agent.kubernetes for agent in agents if agent.executor is Engine.KUBERNETES]
    for context, namespace in sorted({(one.context, one.namespace) for one in pods}):
        name = " ".join(filter(None, ("Kubernetes", context, namespace)))
        why = _asked(partial(reach.kubernetes, context, namespace, environ))
        yield Place(name=name, problem=why, mend="mend the kubeconfig, or look after the API server")


def _apart(seen: Look) -> Iterator[Place]:
    """What nodes need that share no folder with this host."""
    host, name = seen.settings, "nodes without the state folder"
    if host.agent_user is not None:
        why = f"TSCHED_AGENT_USER is {host.agent_user}, whom they may not have"
        yield Place(name=name, problem=why, mend="run the runner as that user and take the setting out")
    if host.serve_url is None:
        mend = "set TSCHED_SERVE_URL to where they find `tsched serve`"
        yield Place(name=name, problem="TSCHED_SERVE_URL is not set", mend=mend)
        return
    why = _asked(partial(reach.server, host.serve_url, seen.folder.runs))
    mend = "start `tsched serve` on this very state folder, or mend TSCHED_SERVE_URL"
    yield Place(name="`tsched serve`", problem=why, mend=mend)


def _asked(ask: Callable[[], str]) -> str:
    try:
        return within(PATIENCE, ask, what="it")
    except TransientError as error:
        return str(error)
