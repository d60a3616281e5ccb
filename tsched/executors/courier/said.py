"""What is told to the runner of a run: the state of things, and its log in pieces."""

import base64
import hashlib
import os

from .place import Place, record

PIECE = 1 << 18  # bytes of the log that one request carries
SAMPLE = 1 << 10  # bytes before its end by which a log is known to be the one that was sent
PROCESS = ("pid", "process_start", "boot_id", "agent_pid", "agent_start", "host")


class Said:
    """What is told to the runner: the state of things, never a step, so that each word may be lost or come twice."""

    def __init__(self, place: Place) -> None:
        self._place = place
        self._beat = 0
        self._again()

    def now(self, *, ended: bool) -> dict[str, object]:
        """All of it; `ended`: the shim is over, and so is what it says."""
        lease = record(self._place.lease)
        running = lease is not None and lease.get("state") == "running"
        return {
            "process": {name: lease.get(name) for name in PROCESS} if running and lease is not None else None,
            "stopping": self._place.read("stopping"),
            "exit": self._place.read("exit.json") if ended and self.whole() else None,
            "words": self._place.words() if ended else "",
        }

    def beating(self) -> bool:
        """Whether the shim has set its lease's time since the last look."""
        try:
            beat = self._place.lease.stat().st_mtime_ns
        except OSError:
            return False
        before, self._beat = self._beat, beat
        return beat != before

    def _again(self) -> None:
        """The log is sent from its beginning."""
        self.have = 0  # bytes of the log that the runner has
        self._had = hashlib.sha256()  # of those
        self._end = b""  # the last of them
        self._piece = b""  # what is on its way, to follow on them

    def piece(self) -> dict[str, object]:
        """The log's next piece. A shim may have shortened it in its middle: then all of it is sent again."""
        try:
            with self._place.log.open("rb") as file:
                file.seek(max(0, self.have - SAMPLE))
                if file.read(min(SAMPLE, self.have)) != self._end:
                    self._again()
                file.seek(self.have)
                self._piece = file.read(PIECE)
        except OSError:
            self._piece = b""
        return {"at": self.have, "data": base64.b64encode(self._piece).decode()}

    def taken(self, size: object) -> None:
        """The runner has so many bytes of the log. Other than it had, with the piece or without: it gets all anew."""
        if size == self.have + len(self._piece):
            self.have += len(self._piece)
            self._had.update(self._piece)
            self._end = (self._end + self._piece)[-SAMPLE:]
        elif size != self.have:
            self._again()

    def whole(self) -> bool:
        """Whether the runner has the log as it is now, or takes no more of it.

        The shim moves what follows on the middle that it leaves out: a piece that was read just then is no part of
        the log, though it may end like one.
        """
        try:
            with self._place.log.open("rb") as file:
                wanted = min(os.fstat(file.fileno()).st_size, int(self._place.spec["log_max"]))
                if self.have < wanted:
                    return False
                is_it = hashlib.sha256(file.read(self.have)).digest() == self._had.digest()
        except OSError:
            return True
        if not is_it:
            self._again()
        return is_it
