"""`tsched ci`: the whole gate of a pull request, as a forge runs it and as an author runs it before pushing."""

import os
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tsched.cli.call import settings_of
from tsched.cli.output import complain
from tsched.cli.plans import check_required
from tsched.cli.validate import STRICT, Wanted, check
from tsched.model.errors import ConfigurationError, TschedError

if TYPE_CHECKING:
    from tsched.gitops.commits import Commits

BASES = ("origin/main", "main")  # what a change is compared with where nothing is said
MARKER = "tsched-plan"  # by which our comment is found again
SUMMARY = "GITHUB_STEP_SUMMARY"  # GitHub's own variable: a file whose markdown is shown with the job


def ci(
    ctx: typer.Context,
    *,
    base: Annotated[
        str | None,
        typer.Option(metavar="REV", help="What the change is compared with (default: origin/main or main)."),
    ] = None,
    status: Annotated[
        str | None, typer.Option(metavar="URL|FILE", help="A runner's status, for what its agents hold now.")
    ] = None,
    require_review: Annotated[
        list[str] | None, typer.Option("--require-review", metavar="widening", help="Fail where powers are gained.")
    ] = None,
    strict: Annotated[bool, STRICT] = False,
    fmt: Annotated[
        bool, typer.Option("--fmt/--no-fmt", help="Whether files must be as `tsched fmt` leaves them.")
    ] = True,
    comment: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write the pull request's comment there.")
    ] = None,
    sarif: Annotated[Path | None, typer.Option(metavar="FILE", help="Write the findings there, as SARIF.")] = None,
) -> None:
    """Run the whole gate here.

    The rules, the form of the files, and what the change does to the fleet, in the repository around the current
    folder. Exit code 1 where it may not merge.
    """
    check_required(require_review or ())
    settings = settings_of(ctx)
    form = "github" if os.environ.get("GITHUB_ACTIONS") == "true" else "text"
    steps: dict[str, Callable[[], bool]] = {
        "the rules": lambda: check(settings, ".", None, Wanted(form=form, strict=strict, sarif=sarif)),
    }
    if fmt:
        steps["the form of the files"] = _form
    steps["the change"] = lambda: _change(base, status, require_review or [], comment)
    failed = [name for name, step in steps.items() if not _run(name, step)]
    if failed:
        complain(f"this may not merge: {', '.join(failed)}")
        raise typer.Exit(1)
    print("this may merge")


def _run(name: str, step: Callable[[], bool]) -> bool:
    """One step under a heading; what can't be looked at has not passed."""
    print(f"== {name}", flush=True)
    try:
        return step()
    except TschedError as error:
        complain(str(error))
        return False


def _form() -> bool:
    from tsched.cli.fmt import unformatted

    wrong = list(unformatted(Path()))
    for path, _, changes in wrong:
        for change in changes:
            print(f"{path}: {change}")
    if wrong:
        print("`tsched fmt` mends these")
    return not wrong


def _change(base: str | None, status: str | None, required: list[str], comment: Path | None) -> bool:
    from tsched.gitops.commits import Commits
    from tsched.observe.markdown import plan_comment
    from tsched.runner.look import live_at, plan_between, unowned

    live = live_at(status)
    with closing(Commits.around(Path())) as commits:
        before = _base(commits, base)
        if before is None:
            print("there is nothing to compare with yet")
            return True
        found, seen = plan_between(commits, before, "HEAD", live)
        text = plan_comment(found, seen)
        missing = unowned(commits, before, "HEAD", seen, required)
    print(text)
    for path in (comment, os.environ.get(SUMMARY)):
        if path:
            with open(path, "a" if path != comment else "w", encoding="utf-8") as file:
                file.write(text + "\n")
    if missing is not None:
        complain(missing)
    return missing is None


def _base(commits: "Commits", wanted: str | None) -> str | None:
    """Where the change began: the newest commit that base and HEAD share. None where there is no base at all."""
    for name in (wanted,) if wanted is not None else BASES:
        try:
            return commits.merge_base(name, "HEAD")
        except ConfigurationError:
            if wanted is not None:
                raise
    return None


def comment(
    ctx: typer.Context,
    number: Annotated[int, typer.Argument(metavar="NUMBER", help="The pull request's number.", min=1)],
    file: Annotated[Path, typer.Argument(metavar="FILE", help="The comment, in markdown.")],
) -> None:
    """Put a comment on a pull request, in the place of the one before."""
    from tsched.gitops.forge import forge_of
    from tsched.runner.propose import address_of

    settings = settings_of(ctx)
    body = file.read_text(encoding="utf-8")
    with closing(forge_of(address_of(settings), environ=settings.environ)) as forge:
        print(forge.comment(number, marker=MARKER, body=body))
