"""Blame in words and as objects: a task's attempts, a revision's runs beside those of the one before."""

from collections.abc import Iterator, Sequence

from tsched.model.blame import Attempt, Origin, RecipeThen
from tsched.model.commit import Commit
from tsched.model.units import about, iso
from tsched.observe import figures
from tsched.observe.tables import Table
from tsched.observe.text import block, one_line
from tsched.schedule.fared import Fared, RevisionBlame


def task_lines(task_id: str, attempts: Sequence[Attempt], *, recipe: bool = False) -> Iterator[str]:
    """A block of lines an attempt. `recipe`: with the text of the recipe, once for each that differs."""
    yield f"Task {task_id}: {one_line(attempts[-1].run.title)}"
    shown: dict[str, str] = {}
    for one in attempts:
        yield ""
        yield _attempt(one)
        yield from _origin_lines(one.origin, "  ")
        yield from _recipe_lines(one)
        if recipe and one.recipe is not None:
            if (before := shown.get(one.recipe.blob)) is not None:
                yield f"  text      as of run {before}"
                continue
            shown[one.recipe.blob] = one.run.run_id
            yield ""
            yield block(one.recipe.text).rstrip("\n")


def _attempt(one: Attempt) -> str:
    run, end = one.run, one.result
    how = "runs" if end is None else f"{end.outcome}: {end.reason}"
    return one_line(
        f"Attempt {run.attempt}, run {run.run_id} by {run.agent} in {run.queue}, {iso(run.created_at)}: {how}"
    )


def _origin_lines(origin: Origin, indent: str) -> Iterator[str]:
    yield f"{indent}revision  {origin.revision}"
    if origin.commit is None:
        yield f"{indent}commit    not among what was fetched: its history was rewritten, or it is no git revision"
        return
    yield f"{indent}commit    {_commit(origin.commit)}"
    if origin.pull_request is not None:
        yield f"{indent}request   #{origin.pull_request}" + (f", {origin.address}" if origin.address else "")


def _commit(commit: Commit) -> str:
    return one_line(f"{commit.subject}, by {commit.author} <{commit.email}>, {iso(commit.date)}")


def _recipe_lines(one: Attempt) -> Iterator[str]:
    if one.recipe is None:
        yield f"  recipe    {one_line(one.run.recipe)}, whose text at that revision is not to be had here"
        return
    yield f"  recipe    {one_line(one.recipe.path)}, blob {one.recipe.blob}"
    if one.recipe.changed is not None:
        yield f"  changed   {one.recipe.changed.id[:12]}, {_commit(one.recipe.changed)}"


def task_object(task_id: str, attempts: Sequence[Attempt], *, recipe: bool = False) -> dict[str, object]:
    return {
        "task_id": task_id,
        "title": attempts[-1].run.title,
        "attempts": [_attempt_object(one, recipe) for one in attempts],
    }


def _attempt_object(one: Attempt, recipe: bool) -> dict[str, object]:
    run, end = one.run, one.result
    return {
        **{key: getattr(run, key) for key in ("run_id", "agent", "pool", "queue", "attempt")},
        "started_at": iso(run.created_at),
        "ended_at": None if end is None else iso(end.exit.ended_at),
        "outcome": None if end is None else end.outcome,
        "exit_code": None if end is None else end.exit.exit_code,
        "reason": None if end is None else end.reason,
        **_origin_object(one.origin),
        "recipe": None if one.recipe is None else _recipe_object(one.recipe, recipe),
    }


def _origin_object(origin: Origin) -> dict[str, object]:
    request = None
    if origin.pull_request is not None:
        request = {"number": origin.pull_request, "url": origin.address}
    return {
        "revision": origin.revision,
        "commit": None if origin.commit is None else _commit_object(origin.commit),
        "pull_request": request,
    }


def _commit_object(commit: Commit) -> dict[str, str]:
    return {
        "id": commit.id,
        "author": commit.author,
        "email": commit.email,
        "date": iso(commit.date),
        "subject": commit.subject,
    }


def _recipe_object(recipe: RecipeThen, text: bool) -> dict[str, object]:
    return {
        "path": recipe.path,
        "blob": recipe.blob,
        "changed": None if recipe.changed is None else _commit_object(recipe.changed),
        **({"text": recipe.text} if text else {}),
    }


def revision_lines(blame: RevisionBlame) -> Iterator[str]:
    """Who made both revisions."""
    yield from _origin_lines(blame.origin, "")
    if blame.before is None:
        yield "before    no revision ran anything before it"
        return
    yield ""
    yield f"before    {blame.before.revision}, the last that ran anything before it"
    if blame.before.commit is not None:
        yield f"          {_commit(blame.before.commit)}"


def revision_tables(blame: RevisionBlame) -> Iterator[Table]:
    """What changed between the two, and how their runs fared: of all, then of the groups that differ."""
    if blame.changes:
        changes = [(row.kind, row.subject, row.what) for row in blame.changes]
        yield Table(title="What changed", columns=("CHANGE", "SUBJECT", "WHAT"), rows=changes)
    rows = [_fared_row("all runs", "", blame.whole)]
    for by, groups in blame.groups.items():
        rows += [_fared_row(str(by), name, one) for name, one in groups.items() if one.differs]
    columns = ("RUNS OF", "NAME", "COMPLETE BEFORE", "COMPLETE NOW", "AVERAGE BEFORE", "NOW", "VERDICT")
    yield Table(title="How its runs fared", columns=columns, rows=rows)


def _fared_row(by: str, name: str, one: Fared) -> tuple[str, ...]:
    averages = (about(side.durations.mean) if side.durations else "-" for side in (one.before, one.after))
    changed = "recipe changed; " if one.changed and by == "recipe" else ""
    found = one.comparison
    return (
        by,
        name.removeprefix("recipes/"),
        str(found.before),
        str(found.after),
        *averages,
        f"{changed}{found.words}",
    )


def revision_object(blame: RevisionBlame) -> dict[str, object]:
    changes = [{"kind": row.kind, "subject": row.subject, "what": row.what} for row in blame.changes]
    return {
        **_origin_object(blame.origin),
        "before": None if blame.before is None else _origin_object(blame.before),
        "changes": changes,
        "changes_unknown": blame.unknown or None,
        "all": _fared_object(blame.whole),
        "by": {
            str(by): [{"name": name, **_fared_object(one)} for name, one in groups.items()]
            for by, groups in blame.groups.items()
        },
    }


def _fared_object(one: Fared) -> dict[str, object]:
    found = one.comparison
    return {
        "verdict": found.verdict,
        "words": found.words,
        "difference": [round(found.difference.low, 4), round(found.difference.high, 4)],
        "recipe_changed": one.changed,
        "complete": {"before": figures.rate_object(found.before), "now": figures.rate_object(found.after)},
        "before": figures.summary_object(one.before),
        "now": figures.summary_object(one.after),
    }
