"""How a recipe and a task become a command and an environment. Task text is data: never a flag, a word or a path."""

import json
import os
import re
import shutil
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path

import minijinja

from tsched.executors.executor import Again
from tsched.model.errors import ConfigurationError
from tsched.model.fleet import Recipe, Runtime
from tsched.model.run import Run
from tsched.model.task import Task

MOST = 100 * 1024  # bytes of one argument or variable; Linux refuses 128 KiB
RENDERED_MOST = 1024 * 1024  # characters that a prompt may put in by its values
FUEL = 300_000  # steps that rendering a prompt may take
HOST_NAMES = ("PATH", "HOME", "LANG", "TZ", "TMPDIR")
TASKS_MCP = "TSCHED_TASKS_MCP"  # the variable that tells agents where the task server's MCP tools are
DEFAULT_PATH = "/usr/local/bin:/usr/bin:/bin"
TASKS_TOKEN = "TSCHED_TASKS_TOKEN"  # the variable of its token, which agents see where they were given it
_PLACEHOLDER = re.compile(r"\{(prompt|recipe|task_id|task_file|workspace|agent)\}")
_SESSION_PLACEHOLDER = re.compile(r"\{(prompt|recipe|run_id|session|workspace)\}")
_CUT = "\n[cut here: the whole text is in the file that TSCHED_TASK_FILE names]"


@dataclass(frozen=True, slots=True, kw_only=True)
class Paths:
    """Where the run's files are; absolute."""

    recipe: Path
    task_file: Path
    workspace: Path


@dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    """Of the task server's MCP tools: their address, and whether the agent may see the token for it."""

    mcp: str
    token: bool = False

    def fill(self, text: str, runtime: Runtime) -> str:
        return text.replace("{mcp}", self.mcp).replace("{mcp_auth}", runtime.mcp_auth if self.token else "")


@dataclass(frozen=True, slots=True, kw_only=True)
class Conversation:
    """Of a run that may be gone on with, or that goes on: its run id, and the conversation before it, if any.

    `left`: what the working folder holds of that, in words.
    """

    run_id: str
    again: Again | None = None
    left: str = ""


def arguments(
    runtime: Runtime, *, recipe: Recipe, task: Task, agent: str, paths: Paths, told: Told | None = None,
    conversation: Conversation | None = None,
) -> tuple[str, ...]:  # fmt: skip
    """The argv of a run. Text that is put in is not looked at for placeholders again.

    `told`: where the task server's MCP tools are, for runtimes that can be told it.

    Raises ConfigurationError where the recipe's prompt can't be rendered, or it needs a parameter nobody supplies.
    """
    supplied = parameters(recipe, task=task, agent=agent)
    values = {
        "recipe": str(paths.recipe),
        "task_id": task.id,
        "task_file": str(paths.task_file),
        "workspace": str(paths.workspace),
        "agent": agent,
    }
    again = conversation.again if conversation is not None else None
    template, pattern = runtime.argv, _PLACEHOLDER
    if conversation is not None and (again is not None or runtime.opening):
        template, pattern = runtime.resume if again is not None else runtime.opening, _SESSION_PLACEHOLDER
        values |= {"run_id": conversation.run_id, "session": again.session if again is not None else ""}
    if any("{prompt}" in item for item in template):
        values["prompt"] = prompt(recipe, supplied=supplied, folder=paths.recipe.parent) + _answer(recipe)
    if conversation is not None and again is not None:
        values["prompt"] = _reminder(again, paths.workspace, conversation.left) + values["prompt"]
    argv = [_fill(item, values, pattern) for item in template]
    if runtime.parameters and again is None:
        _require_parameters(recipe, supplied)
        for key, value in supplied.items():
            argv += [runtime.parameters, bounded(f"{key}={value}")]
    if told is not None:
        argv += [told.fill(item, runtime) for item in runtime.mcp]
    return tuple(argv)


def _reminder(again: Again, folder: Path, left: str) -> str:
    """What tells an agent why its conversation goes on."""
    return (
        f"You have worked on this task before, in this conversation. That run ended so: {again.ended}.\n"
        f"Your working folder, {folder}, is {left}. Go on with the task:\n\n"
    )


def _answer(recipe: Recipe) -> str:
    """What tells an agent of the answer's form. goose reads it from the recipe itself."""
    return f"\n\nEnd with one JSON value that matches this JSON Schema:\n{recipe.response}" if recipe.response else ""


def _fill(item: str, values: Mapping[str, str], pattern: re.Pattern[str]) -> str:
    filled = bounded(pattern.sub(lambda match: values[match[1]], item))
    if filled.startswith("-") and not item.startswith("-"):
        return "\n" + filled  # text that begins like a flag is still text
    return filled


def parameters(recipe: Recipe, *, task: Task, agent: str) -> dict[str, str]:
    """What we supply of the parameters that the recipe declares, in its order."""
    known = {
        "task_id": task.id,
        "task_title": task.title,
        "task_description": task.description,
        "queue": task.queue,
        "agent": agent,
    }
    return {item.key: clean(known[item.key]) for item in recipe.parameters if item.key in known}


def _require_parameters(recipe: Recipe, supplied: Mapping[str, str]) -> None:
    for item in recipe.parameters:
        if item.key not in supplied and item.default is None and item.requirement != "optional":
            raise ConfigurationError(
                f"{recipe.path}: parameter `{item.key}` has no value: give it a default, tsched supplies only "
                "task_id, task_title, task_description, queue and agent"
            )


def prompt(recipe: Recipe, *, supplied: Mapping[str, str], folder: Path) -> str:
    """The recipe's instructions and prompt, rendered as goose renders them, within bounds of time and size.

    Raises ConfigurationError where the template is wrong, unbounded or names an unknown parameter.
    """
    _require_parameters(recipe, supplied)
    defaults = {item.key: item.default or "" for item in recipe.parameters}
    context = {**defaults, **{key: bounded(value) for key, value in supplied.items()}, "recipe_dir": str(folder)}
    room = RENDERED_MOST

    def within_bounds(value: object) -> object:
        nonlocal room
        room -= len(str(value))
        if room < 0:
            raise ValueError(f"it grows past {RENDERED_MOST} characters")
        return value

    engine = minijinja.Environment(
        undefined_behavior="strict", fuel=FUEL, pycompat=False, keep_trailing_newline=True, finalizer=within_bounds
    )
    source = "\n\n".join(part for part in (recipe.instructions, recipe.prompt) if part)
    try:
        return engine.render_str(source, **context)
    except (minijinja.TemplateError, ValueError) as error:
        reason = str(error).partition("\n")[0]
        raise ConfigurationError(
            f"{recipe.path}: its prompt can't be rendered: {reason}: mend the template, or declare the parameter"
        ) from error


def environment(
    host: Mapping[str, str],
    *,
    passed: Collection[str],
    runtime: Runtime,
    recipe: Recipe,
    task: Task,
    run: Run,
    task_file: Path,
) -> dict[str, str]:
    """The exact environment of a run: five names of the host, those that `passed` names, and the task's own.

    Raises ConfigurationError where a variable that the runtime or the recipe needs is not among them.
    """
    env = {"PATH": DEFAULT_PATH}
    env |= {name: host[name] for name in (*HOST_NAMES, *passed) if name in host}
    if runtime.mcp_config is not None and TASKS_MCP in env:
        name, config = runtime.mcp_config
        told = Told(mcp=env[TASKS_MCP], token=TASKS_TOKEN in env)
        env[name] = merged(told.fill(config, runtime), env.get(name))
    env |= {
        "TSCHED_TASK_ID": task.id,
        "TSCHED_TASK_TITLE": bounded(task.title),
        "TSCHED_TASK_DESCRIPTION": bounded(task.description),
        "TSCHED_TASK_QUEUE": task.queue,
        "TSCHED_TASK_PRIORITY": str(task.priority),
        "TSCHED_TASK_FILE": str(task_file),
        "TSCHED_RUN_ID": run.run_id,
    }
    needed = [(name, f"runtime `{runtime.name}`") for name in runtime.env]
    needed += [(name, f"recipe {recipe.path}") for name in recipe.env_keys]
    for name, user in needed:
        if name not in env:
            raise ConfigurationError(f"{user} needs the variable {name}: {_mend(name, host, passed)}")
    return env


def merged(ours: str, theirs: str | None) -> str:
    """A JSON object with what the host has set in it, which wins. Text of the host that is no such object stays."""
    try:
        known = json.loads(theirs) if theirs else {}
    except ValueError:
        known = None
    return json.dumps(_over(json.loads(ours), known)) if isinstance(known, dict) else theirs or ours


def _over(below: dict[str, object], above: Mapping[str, object]) -> dict[str, object]:
    found = dict(below)
    for key, value in above.items():
        inner = found.get(key)
        found[key] = _over(inner, value) if isinstance(inner, dict) and isinstance(value, dict) else value
    return found


def _mend(name: str, host: Mapping[str, str], passed: Collection[str]) -> str:
    if name in passed or name in HOST_NAMES:
        return "set it in the runner's environment"
    if name in host:
        return "it is set here but agents may not see it: add it to TSCHED_PASS_ENV"
    return "set it in the runner's environment and add it to TSCHED_PASS_ENV"


def program(name: str, path: str) -> str:
    """The absolute path of the program that argv begins with; `path` is the PATH that the run will have.

    A name with a slash stands for itself. Raises ConfigurationError where there is no such program.
    """
    if "/" in name:
        if Path(name).is_absolute() and not (os.access(name, os.X_OK) and Path(name).is_file()):
            raise ConfigurationError(
                f"no program at {name} that may be executed: install it, or mend the runtime's argv"
            )
        return name
    found = shutil.which(name, path=path)
    if found is None:
        raise ConfigurationError(
            f"no program `{name}` on PATH ({path}): install it, or set PATH for the runner so that it is found"
        )
    return str(Path(found).absolute())


def clean(text: str) -> str:
    """Text that a process can be given: no NUL, nothing that is not Unicode."""
    return text.replace("\0", "").encode("utf-8", "replace").decode()


def bounded(text: str) -> str:
    """Clean text of at most 100 KiB; where it was cut, it says where the whole is."""
    data = clean(text).encode()
    if len(data) <= MOST:
        return data.decode()
    return data[: MOST - len(_CUT)].decode(errors="ignore") + _CUT
