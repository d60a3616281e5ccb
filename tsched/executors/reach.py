"""Whether the clusters that runs are for can be had from here: a question or two to each, changing nothing.

Each function says what is wrong, "" for nothing.
"""

from collections.abc import Mapping
from pathlib import Path

from tsched.executors import whose
from tsched.executors.controller import Controller
from tsched.executors.courier.line import Gone, Runner, Silence
from tsched.executors.kubernetes.cluster import Clusters
from tsched.model.errors import ConfigurationError, TransientError

NOBODY = "nobody"  # the name of a run that there never is


def slurm(environ: Mapping[str, str]) -> str:
    """Slurm's commands are here, and its controller answers them."""
    controller = Controller(environ)
    try:
        controller.there()
        controller.jobs(NOBODY)
    except (ConfigurationError, TransientError) as error:
        return str(error)
    return ""


def server(address: str, runs: Path) -> str:
    """A `tsched serve` answers there, and over the state folder whose runs these are."""
    try:
        Runner(address, NOBODY, whose.runner_id(runs)).ask("word", "", {})
    except Gone:  # as it says of a run of its own runner's that is not there
        return ""
    except Silence as silence:
        return f"{address}: {silence}"
    return f"{address}: it is no `tsched serve`"


def kubernetes(context: str, namespace: str, environ: Mapping[str, str]) -> str:
    """There are credentials for it, its API server takes them, and is new enough."""
    try:
        cluster = Clusters(environ).at(context, namespace, whose.NONE)
        cluster.look(watch=False)
        if not cluster.trouble:
            cluster.prove()
    except (ConfigurationError, TransientError) as error:
        return str(error)
    return cluster.trouble
