"""An operator's agreement to the revision that is held."""

import time
from contextlib import closing

from tsched.model.errors import ConfigurationError
from tsched.observe.status import NOTHING_SEEN, Report
from tsched.runner.folder import folder_of
from tsched.settings import Settings
from tsched.state import requests, verdicts
from tsched.state.database import Database


def accept(settings: Settings, revision: str, *, author: str) -> str:
    """Ask the runner's next pass to apply the held revision, given in full or by its beginning; returns it in full.

    Raises ConfigurationError where it is not the held one, or is held for its signature.
    """
    folder = folder_of(settings)
    folder.create()
    with closing(Database.open(folder.db)) as db:
        report = verdicts.get_report(db, Report, NOTHING_SEEN)
        held = report["held"]
        if held is None:
            raise ConfigurationError(
                "no revision is held: there is nothing to accept (`tsched status` shows what is)"
            )
        if len(revision) < 4 or not held["revision"].startswith(revision):
            raise ConfigurationError(f"{revision} is not the held revision, which is {held['revision'][:12]}")
        if any(one["type"] == "Verified" and one["status"] == "False" for one in report["conditions"]):
            raise ConfigurationError(f"it is its signature that holds it, which nothing replaces: {held['reason']}")
        requests.insert(db, time=time.time(), kind="accept", argument=held["revision"], author=author)
    return held["revision"]
