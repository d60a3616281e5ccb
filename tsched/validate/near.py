"""What was most likely meant by a name that is not known."""

import difflib
from collections.abc import Sequence

PATIENCE = 20_000  # comparisons in one check: enough for people, and no end of misspelt names takes long


class Near:
    """Looks for the nearest of the known names until its patience is used up."""

    def __init__(self) -> None:
        self._left = PATIENCE

    def __call__(self, name: str, known: Sequence[str]) -> str | None:
        """The nearest, None where none is near."""
        self._left -= len(known)
        if self._left < 0:
            return None
        found = difflib.get_close_matches(name, known, 1)
        return found[0] if found else None
