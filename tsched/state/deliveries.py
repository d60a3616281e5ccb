"""Deliveries of hooks that have been here: the newest, so that a replayed one starts nothing."""

import hashlib
from pathlib import Path

from tsched.model.errors import TransientError
from tsched.state.folder import write_durably

KEPT = 1000


def known(path: Path, delivery: str) -> bool:
    """Whether a delivery was remembered."""
    return _digest(delivery) in _read(path)


def remember(path: Path, delivery: str) -> None:
    """Know a delivery from now on; the oldest past KEPT go. Raises TransientError where the disk refuses."""
    kept = [*_read(path), _digest(delivery)][-KEPT:]
    try:
        write_durably(path, "".join(f"{one}\n" for one in kept))
    except OSError as error:
        raise TransientError(f"{path}: {error.strerror}: make room there") from None


def _read(path: Path) -> list[str]:
    try:
        return path.read_text(encoding="ascii", errors="replace").split()
    except FileNotFoundError:
        return []
    except OSError as error:
        raise TransientError(f"{path}: {error.strerror}") from None


def _digest(delivery: str) -> str:
    return hashlib.sha256(delivery.encode()).hexdigest()
