"""`tsched doctor` and `audit`: whether this host is well, and whether anything drifted from git."""

import time
from typing import TYPE_CHECKING, Annotated

import typer

from tsched.cli.call import settings_of
from tsched.cli.output import JSON, print_json

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tsched.model.finding import Finding

STRICT = typer.Option("--strict", help="Warnings fail too.")


def doctor(
    ctx: typer.Context, strict: Annotated[bool, STRICT] = False, as_json: Annotated[bool, JSON] = False
) -> None:
    """Check that this host's runner is well.

    The morning checklist: each check with what was seen and how to mend it. Touches nothing, waits for nothing long.
    Exit code 1 where a check fails.
    """
    from tsched.runner.doctor import doctor as examine

    _tell(examine(settings_of(ctx), now=time.time()), strict=strict, as_json=as_json)


def audit(
    ctx: typer.Context, strict: Annotated[bool, STRICT] = False, as_json: Annotated[bool, JSON] = False
) -> None:
    """Compare what git says with what is, and name what drifted.

    The newest commit, the applied fleet, this host's settings, agents, runs and tasks. Touches nothing. Exit code 1
    where something drifted.
    """
    from tsched.runner.audit import audit as compare

    _tell(compare(settings_of(ctx), now=time.time()), strict=strict, as_json=as_json)


def _tell(found: "Sequence[Finding]", *, strict: bool, as_json: bool) -> None:
    """All findings, in words or JSON; exit code 1 where they come to a failure."""
    from tsched.model.finding import Standing, worst
    from tsched.observe.tables import Table, show

    standing = worst(found)
    if as_json:
        checks = [
            {"check": one.check, "status": str(one.standing), "evidence": one.evidence, "mend": one.mend or None}
            for one in found
        ]
        print_json({"status": str(standing), "checks": checks})
    else:
        rows = [(str(one.standing), one.check, one.evidence, one.mend and f"→ {one.mend}") for one in found]
        show([Table(columns=("STATUS", "CHECK", "WHAT WAS SEEN", "MEND"), rows=rows)])
    if standing is Standing.FAIL or (strict and standing is Standing.WARN):
        raise typer.Exit(1)
