"""Runs on nodes that share no folder with us: their word, put down as their shims would have put it down here.

A ticket, which the job carries, starts its run once: whoever creates `started` first, a node or recovery, has decided
it. From then on the token that this node has made is good for this run alone, and until its end is on record. Of both
we keep the hash. Each word says how things are, so it may be lost, or come twice.
"""

import base64
import hmac
import json
import os
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Annotated, TypeVar

import msgspec

from tsched.executors import durable, parcel, whose
from tsched.executors.runfolder import SAFE, RunFolder
from tsched.failpoint import failpoint
from tsched.model.run import ExitReason, RunExit
from tsched.model.units import iso
from tsched.serving import RefusedError

OVER = 410  # the status that tells a node's courier to end the run: see courier/line.py
UNKNOWN = 404  # it goes on, and asks again
_SAID = frozenset(ExitReason) - {ExitReason.NOT_STARTED, ExitReason.SHIM_DIED, ExitReason.REBOOT}  # by a shim
_SLACK = 1 << 16  # bytes of a log more than its most: the line that says what was left out
T = TypeVar("T")
Number = Annotated[int, msgspec.Meta(ge=0, le=2**53)]
Short = Annotated[str, msgspec.Meta(max_length=255)]
Hash = Annotated[str, msgspec.Meta(pattern="^[0-9a-f]{64}$")]


@dataclass(frozen=True, slots=True, kw_only=True)
class Beginning:
    """A job's first word: the hash of its token, and where it is."""

    token_sha256: Hash
    host: Short


@dataclass(frozen=True, slots=True, kw_only=True)
class Process:
    """The shim and its agent, as a lease has them."""

    pid: Number
    process_start: Number
    boot_id: Short
    agent_pid: Number
    agent_start: Number
    host: Short


@dataclass(frozen=True, slots=True, kw_only=True)
class Stopping:
    """The stop request that the shim acts on."""

    at: float
    reason: ExitReason


@dataclass(frozen=True, slots=True, kw_only=True)
class Piece:
    """Bytes of the run's log (base64), and where they belong: what we have after them is another log's."""

    at: Number
    data: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Word:
    """How things are on the node. `beating`: the shim has set its lease's time since the last word."""

    process: Process | None
    stopping: Stopping | None
    exit: RunExit | None
    words: Annotated[str, msgspec.Meta(max_length=8000)]
    beating: bool
    log: Piece


class Nodes:
    """The runs of one state folder, for their nodes. Every refusal is a RefusedError whose status says what to do."""

    def __init__(self, *, runs: Path, running: Path, logs: Path, clock: Callable[[], float] = time.time) -> None:
        self._runs = runs
        self._running = running
        self._logs = logs
        self._clock = clock

    # -- who may speak ---------------------------------------------------------------------------------------------

    def admit(self, run_id: str, secret: str, *, runner_id: str, starting: bool) -> None:
        """Raises RefusedError for whoever has not the run's ticket (to start it) or its token (afterwards).

        A run that is not here is over where it is this runner's, `runner_id` ("": a job of an older tsched does
        not say). Of another's nothing is known: a server of the wrong state folder ends nobody's run.
        """
        if runner_id and not self._there(run_id) and whose.runner_id(self._runs) != runner_id:
            raise RefusedError("no run of that runner's is here: is it the wrong state folder?", UNKNOWN)
        folder = self._folder(run_id)
        known = durable.record(folder.job if starting else folder.started) or {}
        if not starting and known.get("by") == "recovery":
            raise RefusedError("the run was given up before it began", OVER)
        expected = known.get("ticket" if starting else "token")
        if not isinstance(expected, str) or not hmac.compare_digest(parcel.digest(secret), expected):
            raise RefusedError("this is no secret of that run's", 401)

    def _there(self, run_id: str) -> bool:
        return bool(SAFE.fullmatch(run_id)) and (self._runs / run_id).is_dir()

    def _folder(self, run_id: str) -> RunFolder:
        if not self._runs.is_dir():
            raise RefusedError("the state folder has no runs: is it the runner's?", 503)
        if not self._there(run_id):
            raise RefusedError("the run is over", OVER)
        return RunFolder(path=self._runs / run_id)

    # -- what they say ---------------------------------------------------------------------------------------------

    def begin(self, run_id: str, body: bytes) -> Mapping[str, object]:
        """Decide that the run starts there, once and durably, and give all that it needs.

        The same node may ask again: it has not heard our answer. Another one, or one that recovery has forestalled,
        is refused with OVER.
        """
        folder, said = self._folder(run_id), _read(body, Beginning)
        with _kept(folder):
            return self._begin(folder, run_id, said)

    def _begin(self, folder: RunFolder, run_id: str, said: Beginning) -> Mapping[str, object]:
        mark = {"by": "node", "token": said.token_sha256, "host": said.host}
        try:
            failpoint("run to be given to its node")
            durable.decide(folder.started, json.dumps(mark).encode(), writer=said.token_sha256[:16])
            failpoint("run given to its node")
        except FileExistsError:
            if (durable.record(folder.started) or {}).get("token") != said.token_sha256:
                raise RefusedError("the run was started elsewhere, or given up", OVER) from None
        names = (durable.record(folder.job) or {}).get("files")
        files = {
            str(name): base64.b64encode(durable.read(folder.path / str(name))).decode()
            for name in (names if isinstance(names, list) else ())
        }
        return {**self._answer(folder, run_id), "files": files}

    def hear(self, run_id: str, body: bytes) -> Mapping[str, object]:
        """Put down how a run is, and say what is wanted of it."""
        folder, said = self._folder(run_id), _read(body, Word)
        with _kept(folder):
            return self._hear(folder, run_id, said)

    def _hear(self, folder: RunFolder, run_id: str, said: Word) -> Mapping[str, object]:
        if not folder.exit.exists():
            self._lease(run_id, said)
            if said.process is not None and not folder.agent.exists():
                known = {name: getattr(said.process, name) for name in ("agent_pid", "agent_start", "boot_id")}
                durable.replace(folder.agent, json.dumps(known).encode())
            if said.stopping is not None and not folder.stopping.exists():
                durable.replace(folder.stopping, json.dumps(asdict(said.stopping)).encode())
                folder.stop.unlink(missing_ok=True)
            if said.words:
                folder.shim_log.write_text(said.words)
        size = self._log(folder, run_id, said.log)
        if said.exit is not None:
            self._end(folder, run_id, said.exit)
        return {**self._answer(folder, run_id), "log": size}

    def _lease_of(self, run_id: str) -> tuple[Path, Mapping[str, object] | None]:
        """The run's lease and what is in it; None where it is gone or another run's."""
        run = durable.record(RunFolder(path=self._runs / run_id).run) or {}
        path = self._running / f"task_{run.get('task_id')}.json"
        found = durable.record(path)
        return path, found if found is not None and found.get("run_id") == run_id else None

    def _lease(self, run_id: str, said: Word) -> None:
        """As a shim keeps it: `running` once, then its time alone. Never made anew where it is gone."""
        path, lease = self._lease_of(run_id)
        if lease is None:
            return
        if said.process is not None and lease.get("state") != "running":
            now = {**lease, **asdict(said.process), "state": "running", "heartbeat": iso(self._clock())}
            durable.replace(path, (json.dumps(now, indent=2, ensure_ascii=False) + "\n").encode(), writer=".node")
        elif said.beating:
            os.utime(path)

    def _log(self, folder: RunFolder, run_id: str, piece: Piece) -> int:
        """Take a piece of the log, where it follows on what is there. Returns how many bytes are there now."""
        most = durable.number(durable.record(folder.spec), "log_max") + _SLACK
        try:
            data = base64.b64decode(piece.data, validate=True)
        except ValueError:
            raise RefusedError("the log's piece is no base64", 400) from None
        path = self._logs / f"{run_id}.log"
        flags = os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW | (os.O_CREAT if data else 0)
        try:
            handle = os.open(path, flags, 0o600)
        except FileNotFoundError:
            return 0
        try:
            size = os.fstat(handle).st_size
            if not data or piece.at > size or piece.at + len(data) > most:
                return size
            os.pwrite(handle, data, piece.at)
            os.ftruncate(handle, piece.at + len(data))
            return piece.at + len(data)
        finally:
            os.close(handle)

    def _end(self, folder: RunFolder, run_id: str, end: RunExit) -> None:
        """Put the end on record, once, and let the lease go."""
        if end.run_id != run_id or end.reason not in _SAID:
            raise RefusedError("that is no end of this run's", 400)
        end = replace(end, detail=end.detail[:2000], unmet=end.unmet[:2000])
        try:
            failpoint("node's end to be recorded")
            durable.decide(folder.exit, json.dumps(asdict(end)).encode(), writer="node")
            failpoint("node's end recorded")
        except FileExistsError:
            pass  # said before, or recovery's word stands
        path, lease = self._lease_of(run_id)
        if lease is not None:
            (self._running / f"agent_{lease.get('agent')}.{path.stem}").unlink(missing_ok=True)
            path.unlink(missing_ok=True)

    # -- what they are told ----------------------------------------------------------------------------------------

    def _answer(self, folder: RunFolder, run_id: str) -> dict[str, object]:
        stop = durable.record(folder.stop)
        at, reason = (stop or {}).get("at"), (stop or {}).get("reason")
        wanted = stop is not None and not folder.stopping.exists()
        seconds = at - self._clock() if isinstance(at, int | float) else 0.0
        return {
            "stop": {"in": seconds, "reason": str(reason or ExitReason.STOPPED)} if wanted else None,
            "leased": self._lease_of(run_id)[1] is not None,
            "over": folder.exit.exists(),
        }


@contextmanager
def _kept(folder: RunFolder) -> Iterator[None]:
    """What the disk refuses the node says again; a run whose folder has gone meanwhile is over."""
    try:
        yield
    except OSError as error:
        if not folder.path.is_dir():
            raise RefusedError("the run is over", OVER) from None
        raise RefusedError(f"it can't be put down: {error.strerror}", 503) from None


def _read(body: bytes, kind: type[T]) -> T:
    try:
        return msgspec.json.decode(body, type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise RefusedError(f"the word can't be read: {error}"[:300], 400) from None
