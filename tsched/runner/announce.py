"""Tells the forge what became of a revision: one commit status, sent when it changes and as well as it can be."""

from contextlib import closing
from dataclasses import dataclass

from tsched.model.errors import TschedError
from tsched.runner.record import Pass
from tsched.runner.revise import Held, Ready, Rejected

HASTE = 5.0  # seconds: a forge that is slow may not hold up the agents


@dataclass(frozen=True, slots=True, kw_only=True)
class News:
    """What a revision's status now is."""

    revision: str
    state: str
    words: str


def announce(p: Pass) -> None:
    """Send what this pass newly decided, where a token for it is set. A failure is a warning and no more."""
    token, repo = p.host.settings.status_token, p.host.settings.repo
    found = news(p)
    if token is None or repo is None or found is None:
        return
    from tsched.gitops.forge import forge_of
    from tsched.rest.access import Limits

    limits = Limits(timeout=HASTE, attempts=1, patience=0.0)
    try:
        environ = {**p.host.settings.environ, "TSCHED_FORGE_TOKEN": token}
        with closing(forge_of(repo, environ=environ, limits=limits)) as forge:
            context = f"tsched/apply/{p.host.settings.hostname}"
            forge.set_status(found.revision, context=context, state=found.state, description=found.words)
    except TschedError as error:
        p.log.warning(f"The commit status of {found.revision[:12]} could not be sent: {error}")


def news(p: Pass) -> News | None:
    """What changed for the tip in this pass; None where nothing did."""
    match p.verdict:
        case Ready(tip=tip):
            return News(revision=tip, state="success", words=f"Applied, generation {p.applied.generation}")
        case Rejected(tip=tip, diagnostics=found) if (
            p.last["rejected"] is None or p.last["rejected"]["revision"] != tip
        ):
            return News(revision=tip, state="failure", words=f"Rejected: {found[0]}")
        case Held(tip=tip, reason=reason) if p.last["held"] is None or p.last["held"]["revision"] != tip:
            return News(revision=tip, state="pending", words=f"Held: {reason}")
        case _:
            return None
