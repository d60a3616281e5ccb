"""A read-only view of the applied fleet for the guide's jq lines: `agent-control.json`."""

import json

from tsched.model.fleet import Fleet
from tsched.state.folder import StateFolder, write_durably


def write(folder: StateFolder, fleet: Fleet) -> bool:
    """Write the view where it differs. Returns whether something else stood there (an edit by hand)."""
    rows = [{"agentName": agent.name, "agentType": pool.queue} for pool, agent in fleet.agents()]
    text = json.dumps(rows, indent=2) + "\n"
    try:
        before = folder.control_file.read_text(encoding="utf-8", errors="replace")
    except FileNotFoundError:
        before = ""
    if before == text:
        return False
    write_durably(folder.control_file, text, mode=0o400)
    return bool(before)
