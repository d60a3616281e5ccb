"""What the agents of a fleet need from this machine and do not find: TS501 programs, TS502 variables."""

from collections.abc import Collection, Iterator, Mapping
from importlib.util import find_spec

from tsched.executors.runtimes import DEFAULT_PATH, HOST_NAMES, program
from tsched.model.diagnostic import Diagnostic, of_file
from tsched.model.errors import ConfigurationError
from tsched.model.fleet import Fleet
from tsched.model.placement import Engine
from tsched.model.runtimes import runtime_of, with_goose

SLURM = ("sbatch", "squeue", "scancel")
CLIENT = "kubernetes"


def needs(
    fleet: Fleet, environ: Mapping[str, str], pass_env: Collection[str], *, goose: str | None = None
) -> Iterator[Diagnostic]:
    """A finding for each program that is not on PATH and each variable that agents must have but would not get.

    Findings stand at the recipe of the first agent concerned. Looks at the file system for the programs. `goose`:
    the host's own program in the place of that name.
    """
    seen: set[tuple[str, str]] = set()
    for _, agent in fleet.agents():
        for name in SLURM if agent.executor is Engine.SLURM and ("TS501", SLURM[0]) not in seen else ():
            seen.add(("TS501", name))
            if not _found(name, environ):
                yield _program_missing(name, "executor slurm", agent.name, agent.recipe)
        if agent.executor is Engine.KUBERNETES:  # its image and its Secrets are not to be seen from here
            if find_spec(CLIENT) is None and ("TS501", CLIENT) not in seen:
                seen.add(("TS501", CLIENT))
                yield _client_missing(agent.name, agent.recipe)
            continue
        runtime = runtime_of(agent.runtime, fleet.limits.runtimes)
        recipe = fleet.recipes.get(agent.recipe)
        wanted: list[tuple[str, str]] = []
        if runtime is not None:
            first = with_goose(runtime, goose).argv[0]
            if ("TS501", first) not in seen and "{" not in first:
                seen.add(("TS501", first))
                if not _found(first, environ):
                    yield _program_missing(first, f"runtime {runtime.name}", agent.name, agent.recipe)
            wanted += [(name, f"runtime {runtime.name}") for name in runtime.env]
        wanted += [(name, f"recipe {agent.recipe}") for name in (recipe.env_keys if recipe is not None else ())]
        for name, by in wanted:
            if ("TS502", name) not in seen and not _given(name, environ, pass_env):
                seen.add(("TS502", name))
                yield _variable_missing(name, by, agent.recipe, is_set=bool(environ.get(name)))


def _found(name: str, environ: Mapping[str, str]) -> bool:
    try:
        program(name, environ.get("PATH") or DEFAULT_PATH)
    except ConfigurationError:
        return False
    return True


def _given(name: str, environ: Mapping[str, str], pass_env: Collection[str]) -> bool:
    ours = name.startswith("TSCHED_TASK_") or name == "TSCHED_RUN_ID"
    return ours or (bool(environ.get(name)) and (name in HOST_NAMES or name in pass_env))


def _program_missing(program: str, by: str, agent: str, recipe: str) -> Diagnostic:
    message = f"The {by} of agent {agent} starts `{program}`, which is not on this machine's PATH."
    return of_file(recipe, "TS501", message, f"Install {program}, or name another {by.partition(' ')[0]}.")


def _client_missing(agent: str, recipe: str) -> Diagnostic:
    message = f"Runs of agent {agent} are Jobs of Kubernetes, whose client for Python is not installed here."
    return of_file(recipe, "TS501", message, "Install tsched[kubernetes], or name another executor.")


def _variable_missing(name: str, by: str, recipe: str, *, is_set: bool) -> Diagnostic:
    mend = f"Add {name} to TSCHED_PASS_ENV." if is_set else f"Set {name} on this host and add it to TSCHED_PASS_ENV."
    why = "agents are not given it" if is_set else "it is not set on this host"
    return of_file(recipe, "TS502", f"The {by} needs the variable {name}, but {why}.", mend)
