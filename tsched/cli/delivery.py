"""How a change of the fleet repo is made: shown with its plan, then written here, committed, pushed or proposed."""

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
    from collections.abc import Callable, Sequence

    from tsched.gitops.changes import Changes, FleetFiles
    from tsched.gitops.forge import Forge
    from tsched.gitops.worktree import Worktree
    from tsched.runner.propose import Proposal
    from tsched.settings import Settings


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


def edit(ctx: typer.Context, how: How, title: str, make: "Callable[[FleetFiles], Changes]") -> None:
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


def roll_back(ctx: typer.Context, how: How, revision: str) -> None:
    """Return the repository around here, or the fleet repo's newest revision, to a revision's content."""
    from tsched.gitops.worktree import Worktree
    from tsched.runner.propose import cloned

    settings = settings_of(ctx)
    if how.remote:
        with cloned(settings) as (clone, url):
            _restore(settings, how, clone, revision, url)
    else:
        with Worktree.around(Path()) as here:
            _restore(settings, how, here, revision, None)


def _restore(settings: "Settings", how: How, tree: "Worktree", revision: str, url: str | None) -> None:
    from tsched.gitops.commits import FOLDERS, Commits
    from tsched.runner.propose import between

    with closing(Commits.around(tree.folder)) as commits:
        target = commits.resolve(revision)
        proposal = between(commits.files(commits.resolve("HEAD")), commits.files(target))
    if _shown(proposal) and not how.dry_run:
        title = how.title(f"Roll back to {target[:12]}")
        _deliver(settings, how, title, tree, tree.restore(target, FOLDERS), proposal, url)


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
