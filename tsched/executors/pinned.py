"""All that a run needs, as the files of its folder: decided before the claim, never looked up again."""

import json
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath

import msgspec
from msgspec import to_builtins

from tsched.executors import cgroups, jobs, parcel, whose, workspace
from tsched.executors.checkout import setup_commands
from tsched.executors.executor import Launch
from tsched.executors.limits import limits
from tsched.executors.runfolder import SAFE, Host
from tsched.executors.runtimes import (
    TASKS_MCP,
    TASKS_TOKEN,
    Conversation,
    Paths,
    Told,
    arguments,
    clean,
    environment,
    program,
)
from tsched.executors.salvage import Left, left_by
from tsched.model.errors import ConfigurationError
from tsched.model.placement import Engine
from tsched.model.run import Run
from tsched.model.units import iso


@dataclass(frozen=True, slots=True, kw_only=True)
class Pinned:
    """The run as it is recorded, and every file of its folder by its name there."""

    run: Run
    files: Mapping[str, bytes]


def pin(launch: Launch, host: Host) -> Pinned:
    """Decide everything about a run. Raises ConfigurationError where it could never start."""
    checked(launch)
    apart = launch.run.executor == Engine.SLURM and launch.slurm.apart
    if apart:
        launch = replace(launch, run=replace(launch.run, keeps_session=False), again=None)
    there = host.apart(launch.run.run_id) if apart else host
    run, placed = _placed(launch, host), _placed(launch, there)
    folder = there.folder(run.run_id)
    inside = {file.path: below_recipes(file.path) for file in launch.recipe.files}
    files = {f"recipe/{inside[file.path]}": file.text.encode() for file in launch.recipe.files}
    paths = Paths(
        recipe=folder.path / "recipe" / below_recipes(launch.recipe.path),
        task_file=folder.task,
        workspace=Path(placed.workspace),
    )
    files["task.json"] = as_json(task_record(launch))
    files["spec.json"] = as_json(_spec(launch, placed, there, paths))
    files["lock"] = b""
    if apart:
        errand = parcel.Errand(
            run_id=run.run_id,
            runner_id=whose.runner_id(host.runs),
            address=host.address,
            ticket=secrets.token_hex(32),
        )
        files |= parcel.files(launch.slurm, launch.resources, errand=errand, fetched=(*files,), environ=host.environ)
    elif run.executor == Engine.SLURM:
        files |= jobs.files(launch.slurm, launch.resources, folder=folder.path, environ=host.environ)
    files["run.json"] = as_json({**to_builtins(run), "boot_id": host.boot_id})
    return Pinned(run=run, files=files)


def checked(launch: Launch) -> None:
    """Raises ConfigurationError where files can't be named after the run."""
    for name in (launch.run.run_id, launch.task.id, launch.run.agent):
        if not SAFE.fullmatch(name):
            raise ConfigurationError(f"{name!r} can't name a file: use letters, digits, - and _ only, at most 64")


def _placed(launch: Launch, host: Host) -> Run:
    own = launch.again.before.workspace if launch.again is not None else str(host.workspaces / launch.run.run_id)
    if launch.workspace is None:
        return replace(launch.run, workspace=own, workspace_repo="")
    repo = workspace.address(launch.workspace)
    return replace(launch.run, workspace=own, workspace_repo=repo, keep=str(launch.workspace.keep))


def _spec(launch: Launch, run: Run, host: Host, paths: Paths) -> dict[str, object]:
    """What the shim reads; its docstrings say what each means."""
    environ = host.environ if host.account is None else host.account.owner.environ(host.environ)
    env = environment(
        {**host.environ, **{name: environ[name] for name in ("HOME",) if name in environ}},
        passed=host.pass_env,
        runtime=launch.runtime,
        recipe=launch.recipe,
        task=launch.task,
        run=run,
        task_file=paths.task_file,
    )
    tree, git = host.worktree(run), workspace.git_environment(environ, run.run_id)
    left = left_by(launch.again.before, tree, git) if launch.again is not None and tree is not None else None
    argv = list(
        arguments(
            launch.runtime,
            recipe=launch.recipe,
            task=launch.task,
            agent=launch.run.agent,
            paths=paths,
            told=Told(mcp=env[TASKS_MCP], token=TASKS_TOKEN in env) if TASKS_MCP in env else None,
            conversation=_conversation(launch, left) if run.keeps_session else None,
        )
    )
    if not Path(argv[0]).is_relative_to(paths.workspace):  # what the worktree brings can't be looked for yet
        argv[0] = program(argv[0], env["PATH"])
    setup: list[tuple[str, list[str]]] = []
    if tree is not None and launch.workspace is not None:
        setup = setup_commands(tree, repo=run.workspace_repo, ref=launch.workspace.ref, left=left)
        program("git", host.environ.get("PATH", ""))
    return {
        "run_id": run.run_id,
        "argv": argv,
        "env": env,
        "cwd": run.workspace,
        "lease": str(host.running / f"task_{run.task_id}.json"),
        "link": str(host.running / f"agent_{run.agent}.task_{run.task_id}"),
        "lease_fields": to_builtins(launch.lease),
        "log": str(host.log(run.run_id)),
        "log_max": host.log_max,
        "user": None if host.account is None else host.account.ids(),
        "cgroup": "" if run.executor == Engine.SLURM else cgroups.place(run.run_id),
        "elsewhere": run.executor == Engine.SLURM,
        "limits": limits(launch.resources),
        "heartbeat": launch.heartbeat,
        "max_runtime": launch.max_runtime,
        "stop_grace": launch.stop_grace,
        "stall": launch.stall,
        "setup": [{"what": what, "argv": command} for what, command in setup],
        "setup_lock": f"{tree.cache}.lock" if tree is not None else "",
        "setup_cache": str(tree.cache) if tree is not None else "",
        "setup_env": git,
        "checks": [command for command in launch.recipe.checks if not _templated(command)],
        "check_limit": launch.recipe.check_timeout,
        "hooks": _hooks(launch, left),
        "hook_limit": 0.0 if launch.workspace is None else launch.workspace.hooks.timeout,
    }


def _hooks(launch: Launch, left: Left | None) -> Mapping[str, str]:
    scripts = {} if launch.workspace is None else launch.workspace.hooks.scripts()
    there = left is not None and not left.commit
    return {name: script for name, script in scripts.items() if name != "after_create" or not there}


def _conversation(launch: Launch, left: Left | None) -> Conversation:
    if left is not None:
        words = "as you left it"
    else:
        words = "empty" if launch.workspace is None else "a new checkout, with what you pushed"
    return Conversation(run_id=launch.run.run_id, again=launch.again, left=words)


def _templated(text: str) -> bool:
    """Whether goose would put values into it. Put into a shell command they could be one: goose alone runs that."""
    return "{{" in text or "{%" in text


def task_record(launch: Launch) -> dict[str, object]:
    """The task as its agent reads it."""
    task = launch.task
    return {
        "id": task.id,
        "title": clean(task.title),
        "description": clean(task.description),
        "queue": task.queue,
        "priority": task.priority,
        "created_by": clean(task.created_by),
        "created_at": iso(task.created_at),
        "run_id": launch.run.run_id,
        "agent": launch.run.agent,
        "attempt": launch.run.attempt,
    }


def below_recipes(path: str) -> PurePosixPath:
    """A recipe file's place in the run: its path without `recipes/`, so that sub_recipes resolve."""
    place = PurePosixPath(path.removeprefix("recipes/"))
    if place.is_absolute() or ".." in place.parts or not place.parts:
        raise ConfigurationError(f"{path} is no path of a recipe: keep recipes below recipes/, without `..`")
    return place


def as_json(value: Mapping[str, object]) -> bytes:
    """For a file of the run's folder. (json's own indentation would cost more than all else of it.)"""
    text = json.dumps(value, ensure_ascii=False).encode("utf-8", "replace")
    return msgspec.json.format(text, indent=1) + b"\n"
