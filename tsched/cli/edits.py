"""`tsched agent`, `pool` and `rollback`: changes of the fleet repo without opening an editor."""

import inspect
import re
import typing
from contextlib import closing, nullcontext
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tsched.cli.call import settings_of
from tsched.cli.output import complain
from tsched.model.errors import ConfigurationError
from tsched.model.records import dataclass

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from tsched.gitops.changes import Changes, FleetFiles
    from tsched.gitops.forge import Forge
    from tsched.gitops.worktree import Worktree
    from tsched.runner.propose import Proposal
    from tsched.settings import Settings

agent = typer.Typer(no_args_is_help=True, help="Change agents in the fleet repo.")
pool = typer.Typer(no_args_is_help=True, help="Change pools in the fleet repo.")

Name = Annotated[str, typer.Argument(metavar="NAME", help="The agent's name.")]
PoolName = Annotated[str, typer.Argument(metavar="NAME", help="The pool's name.")]


@dataclass(frozen=True, slots=True, kw_only=True)
class How:
    """What is to become of a change: the options that every command here has."""

    commit: Annotated[bool, typer.Option("--commit", help="Commit it in the repository around here.")] = False
    push: Annotated[
        str | None,
        typer.Option("--push", metavar="BRANCH", help="Commit it on the fleet repo's newest and push there."),
    ] = None
    pr: Annotated[bool, typer.Option("--pr", help="Push it to a branch and open a pull request.")] = False
    message: Annotated[str | None, typer.Option("--message", "-m", help="Another first line of the commit.")] = None
    trailer: Annotated[
        list[str] | None, typer.Option(metavar="KEY: VALUE", help="Such as 'Tsched-Allow-Removal: yes'.")
    ] = None
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show it, and write nothing.")] = False

    @property
    def remote(self) -> bool:
        return self.push is not None or self.pr

    def title(self, otherwise: str) -> str:
        """The commit's first line."""
        return self.message or otherwise

    def branch(self, title: str) -> str:
        """Where it is pushed to: as said, or a name made of the title."""
        return self.push or "tsched/" + re.sub(r"[^a-z0-9]+", "-", title.lower()).strip("-")[:60]

    def check(self) -> None:
        """Raise ConfigurationError for a trailer or a message that is none."""
        for one in self.trailer or ():
            if not re.fullmatch(r"[A-Za-z][A-Za-z0-9-]*: \S[^\r\n]*", one):
                raise ConfigurationError(f"--trailer {one!r} is none: write KEY: VALUE")
        if self.message is not None and not self.message.strip():
            raise ConfigurationError("--message is empty: say in a line what is changed")


def delivering(command: "Callable[..., None]") -> "Callable[..., None]":
    """A command with the options of How after its own, which it gets as `how`. Typer reads the signature set here."""
    hints = typing.get_type_hints(How, include_extras=True)
    shared = [
        inspect.Parameter(one.name, inspect.Parameter.KEYWORD_ONLY, default=one.default, annotation=hints[one.name])
        for one in fields(How)
    ]

    def call(**given: object) -> None:
        wanted = {one.name: given.pop(one.name) for one in shared}
        how = How(**typing.cast("typing.Any", wanted))
        how.check()
        command(**given, how=how)

    own = [one for one in inspect.signature(command, eval_str=True).parameters.values() if one.name != "how"]
    call.__doc__ = command.__doc__
    call.__annotations__ = {one.name: one.annotation for one in (*own, *shared)}
    call.__signature__ = inspect.Signature([*own, *shared])  # type: ignore[attr-defined]  # functions may have one
    return call


@agent.command("add")
@delivering
def agent_add(
    ctx: typer.Context, *, name: Name,
    to: Annotated[str, typer.Option("--pool", metavar="POOL", help="The pool it joins.")],
    limit: Annotated[int | None, typer.Option(help="Its slots.")] = None,
    recipe: Annotated[str | None, typer.Option(help="A path under recipes/ (default: NAME.yaml).")] = None,
    runtime: Annotated[str | None, typer.Option(help="How its recipe is run.")] = None,
    max_runtime: Annotated[str | None, typer.Option(metavar="TIME", help="How long a run may take.")] = None,
    priority_floor: Annotated[int | None, typer.Option(help="The lowest task priority it takes.")] = None,
    how: How,
) -> None:  # fmt: skip
    """Add an agent to a pool."""
    given = {
        "limit": limit, "recipe": recipe, "runtime": runtime, "max_runtime": max_runtime,
        "priority_floor": priority_floor,
    }  # fmt: skip
    settings: Mapping[str, str | int] = {key: value for key, value in given.items() if value is not None}
    _edit(ctx, how, f"Add agent {name} to pool {to}", lambda fleet: fleet.add_agent(name, to, settings))


@agent.command("remove")
@delivering
def agent_remove(
    ctx: typer.Context, *, name: Name,
    with_recipe: Annotated[
        bool, typer.Option("--with-recipe", help="Also its recipe, where no other uses it.")
    ] = False,
    how: How,
) -> None:  # fmt: skip
    """Remove an agent: it drains, then it is deleted."""
    remove(ctx, how, name, with_recipe=with_recipe)


@agent.command("move")
@delivering
def agent_move(
    ctx: typer.Context, *, name: Name,
    to: Annotated[str, typer.Argument(metavar="POOL", help="The pool it joins.")],
    how: How,
) -> None:  # fmt: skip
    """Move an agent into another pool, with its settings."""
    _edit(ctx, how, f"Move agent {name} to pool {to}", lambda fleet: fleet.move_agent(name, to))


@agent.command("limit")
@delivering
def agent_limit(
    ctx: typer.Context, *, name: Name,
    slots: Annotated[int, typer.Argument(metavar="SLOTS", help="How many tasks at once.")],
    how: How,
) -> None:  # fmt: skip
    """Set an agent's limit."""
    _edit(ctx, how, f"Limit agent {name} to {slots}", lambda fleet: fleet.set_agent(name, "limit", slots))


@pool.command("add")
@delivering
def pool_add(
    ctx: typer.Context, *, name: PoolName,
    queue: Annotated[str | None, typer.Option(help="The queue it serves (default: its name).")] = None,
    runtime: Annotated[str | None, typer.Option(help="For agents that name none.")] = None,
    how: How,
) -> None:  # fmt: skip
    """Add a pool, without agents yet."""
    _edit(ctx, how, f"Add pool {name}", lambda fleet: fleet.add_pool(name, queue=queue, runtime=runtime))


@pool.command("remove")
@delivering
def pool_remove(
    ctx: typer.Context, *, name: PoolName,
    how: How,
) -> None:  # fmt: skip
    """Remove a pool: its agents drain."""
    _edit(ctx, how, f"Remove pool {name}", lambda fleet: fleet.remove_pool(name))


@pool.command("suspend")
@delivering
def pool_suspend(
    ctx: typer.Context, *, name: PoolName,
    until: Annotated[str | None, typer.Option(metavar="TIME", help="When it ends by itself, RFC 3339.")] = None,
    reason: Annotated[str | None, typer.Option(help="Why, for people.")] = None,
    how: How,
) -> None:  # fmt: skip
    """Suspend a pool: it takes no new task, its runs go on."""
    _edit(ctx, how, f"Suspend pool {name}", lambda fleet: fleet.suspend_pool(name, until=until, reason=reason))


@pool.command("resume")
@delivering
def pool_resume(
    ctx: typer.Context, *, name: PoolName,
    how: How,
) -> None:  # fmt: skip
    """Let a suspended pool take tasks again."""
    _edit(ctx, how, f"Resume pool {name}", lambda fleet: fleet.resume_pool(name))


@delivering
def rollback(
    ctx: typer.Context, *,
    revision: Annotated[str, typer.Argument(metavar="[REV]", help="Whose content returns.")] = "HEAD~1",
    how: How,
) -> None:  # fmt: skip
    """Make the commit that returns the fleet to a revision's content.

    After showing its plan. Here, in the repository around; with --push or --pr on the fleet repo's newest revision.
    """
    from tsched.gitops.worktree import Worktree
    from tsched.runner.propose import cloned

    settings = settings_of(ctx)
    if how.remote:
        with cloned(settings) as (clone, url):
            _roll_back(settings, how, clone, revision, url)
    else:
        with Worktree.around(Path()) as here:
            _roll_back(settings, how, here, revision, None)


def _roll_back(settings: "Settings", how: How, tree: "Worktree", revision: str, url: str | None) -> None:
    from tsched.gitops.commits import FOLDERS, Commits
    from tsched.runner.propose import between

    with closing(Commits.around(tree.folder)) as commits:
        target = commits.resolve(revision)
        proposal = between(commits.files(commits.resolve("HEAD")), commits.files(target))
    if _shown(proposal) and not how.dry_run:
        title = how.title(f"Roll back to {target[:12]}")
        _deliver(settings, how, title, tree, tree.restore(target, FOLDERS), proposal, url)


def remove(ctx: typer.Context, how: How, name: str, *, with_recipe: bool = False) -> None:
    """Remove an agent from the fleet repo."""
    _edit(ctx, how, f"Remove agent {name}", lambda fleet: fleet.remove_agent(name, with_recipe=with_recipe))


def _edit(ctx: typer.Context, how: How, title: str, make: "Callable[[FleetFiles], Changes]") -> None:
    """Make a change where it belongs: in the folder here, or on a clone of the fleet repo."""
    from tsched.runner.propose import cloned, write

    settings = settings_of(ctx)
    title = how.title(title)
    if how.remote:
        with cloned(settings) as (clone, url):
            proposal = _proposed(clone.folder, make)
            if _shown(proposal) and not how.dry_run:
                write(clone.folder, proposal.changes)
                _deliver(settings, how, title, clone, list(proposal.changes), proposal, url)
        return
    root = Path()
    if not (root / "pools").is_dir():
        raise ConfigurationError("there is no pools/ here: stand in a fleet's folder, or give --push BRANCH or --pr")
    proposal = _proposed(root, make)
    if not _shown(proposal) or how.dry_run:
        return
    write(root, proposal.changes)
    if how.commit:
        from tsched.gitops.worktree import Worktree

        with Worktree.around(root) as here:
            _deliver(settings, how, title, here, list(proposal.changes), proposal, None)


def _proposed(root: Path, make: "Callable[[FleetFiles], Changes]") -> "Proposal":
    from tsched.gitops.changes import FleetFiles
    from tsched.runner.propose import files_of, propose

    files = files_of(root)
    return propose(files, make(FleetFiles(files)))


def _shown(proposal: "Proposal") -> bool:
    """Show a change and its plan. False where there is nothing to do; exit code 1 where it may not be made."""
    from tsched.observe.tables import plan_tables, show
    from tsched.observe.text import block, one_line

    if not proposal.changes:
        print("nothing to change")
        return False
    print(block(proposal.diff), end="")
    for one in proposal.diagnostics:
        print(one_line(f"{one.severity}: {one}"))
    if proposal.plan is None or proposal.review is None:
        complain("this would break the rules: nothing is written")
        raise typer.Exit(1)
    if proposal.plan.rows:
        show(plan_tables(proposal.plan, proposal.review))
    if proposal.plan.held is not None:
        print(f"the guard will hold this: {proposal.plan.held}")
    for starved in proposal.review.starved:
        print(f"nobody will serve the queue {starved.queue}: {starved.witness}")
    return True


def _deliver(
    settings: "Settings", how: How, title: str, tree: "Worktree", paths: "Sequence[str]", proposal: "Proposal",
    url: str | None,
) -> None:  # fmt: skip
    """Commit what was written, and push it or open its pull request."""
    from tsched.observe.markdown import plan_comment
    from tsched.runner.propose import message

    opened = nullcontext() if url is None or not how.pr else closing(_forge(url, settings))
    with opened as forge:  # before anything is pushed: a wrong token is found at once
        commit = tree.commit(message(title, how.trailer or ()), paths)
        if url is None:
            print(f"committed {commit[:12]}: {title}")
            return
        branch = how.branch(title)
        tree.push(branch)
        print(f"pushed {commit[:12]} to {branch}")
        if forge is not None and proposal.plan is not None and proposal.review is not None:
            body = plan_comment(proposal.plan, proposal.review)
            print(forge.open_pull_request(head=branch, base=settings.branch, title=title, body=body))


def _forge(url: str, settings: "Settings") -> "Forge":
    from tsched.gitops.forge import forge_of

    return forge_of(url, environ=settings.environ)
