"""Keeps the operator's folder a view of the applied fleet: recipes to look at, limits to grep."""

from tsched.runner.record import Pass
from tsched.runner.revise import Ready
from tsched.state.operator import ENV_FILE, keep_limits, keep_recipes


def keep_operator_folder(p: Pass) -> None:
    """Mend what differs. Nothing without a fleet repo: there the files are what is applied."""
    folder, fleet = p.host.settings.operator_folder, p.applied.fleet
    if folder is None or fleet is None or p.host.settings.repo is None:
        return
    new = isinstance(p.verdict, Ready)
    try:
        said = keep_recipes(folder, p.host.folder, fleet)
        if keep_limits(folder, fleet) and not new:
            p.log.warning(f"The limits in {ENV_FILE} are put back: they only show the applied fleet's")
    except OSError as error:
        p.log.warning(f"The operator's folder {folder} can't be kept up to date: {error}")
        return
    for words in said if new else ():
        p.log.info(words)
