"""The state folder of the one run that a job is: what came for it, and what is wanted of it."""

import base64
import json
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any


class Place:
    """The state folder of the one run."""

    def __init__(self, root: Path, run_id: str) -> None:
        self.root = root
        self.run = root / "runs" / run_id
        self.log = root / "logs" / f"{run_id}.log"
        self.workspace = root / "workspaces" / run_id
        self.spec: dict[str, Any] = {}
        self.lease = root

    def unpack(self, files: Mapping[str, str]) -> None:
        """Write what came. Raises OSError, ValueError for a name that leads out of the run's folder."""
        for name, text in files.items():
            path = self.run / name
            if not path.resolve().is_relative_to(self.run.resolve()):
                raise ValueError(f"{name} leads out of the run's folder")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(base64.b64decode(text))
        for folder in (self.root / "running", self.log.parent, self.workspace):
            folder.mkdir(parents=True)
        self.spec = json.loads((self.run / "spec.json").read_bytes())
        self.lease = Path(self.spec["lease"])
        self.lease.write_text(json.dumps(self.spec["lease_fields"]))

    def read(self, name: str) -> "dict[str, Any] | None":
        """A JSON object of the run's folder; None where it is not there, or not whole yet."""
        return record(self.run / name)

    def words(self) -> str:
        """The last that the shim itself had to say."""
        try:
            return (self.run / "shim.log").read_text(errors="replace")[-2000:]
        except OSError:
            return ""

    def obey(self, answer: Mapping[str, Any]) -> None:
        """What the runner wants, as the shim looks for it. Clocks may differ: a time is told as seconds from now."""
        if not answer.get("leased", True):
            self.lease.unlink(missing_ok=True)
        stop, asked = answer.get("stop"), self.run / "stop"
        if stop is None:
            asked.unlink(missing_ok=True)
        elif not (self.run / "stopping").exists():
            known = self.read("stop")
            at = time.time() + float(stop["in"])
            if known is None or at < known["at"] - 1:
                temp = self.run / ".stop.tmp"
                temp.write_text(json.dumps({"at": at, "reason": stop["reason"]}))
                temp.rename(asked)


def record(path: Path) -> "dict[str, Any] | None":
    try:
        found = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return None
    return found if isinstance(found, dict) else None
