"""On a cluster's node that shares no folder with the runner: fetches a run, starts its shim, carries word both ways.

Run as `python -I -S courier.py FOLDER ADDRESS RUN_ID` by the job. FOLDER is a state folder of this one run: the shim
works in it as on any machine and knows of no network. The standard library alone; the job carries this very file.
"""

import base64
import ctypes
import hashlib
import http.client
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

PATIENCE = 10.0  # seconds that one request, or a question to Slurm, may take
SLOWEST = 30.0  # seconds between two attempts while nobody answers
FETCHING = 600.0  # seconds that a job waits for the runner before it has its run
TICK = 0.2  # seconds between two looks at what the shim has written
SILENT = 4  # heartbeats without a word from runner or Slurm after which the run is ended: DESIGN section 4
PIECE = 1 << 18  # bytes of the log that one request carries
SAMPLE = 1 << 10  # bytes before its end by which a log is known to be the one that was sent
OVER = 410  # the status that says: this run is no longer, or never was, this job's
LATE = 3  # exit status of a job that came too late
PR_SET_PDEATHSIG, PR_SET_DUMPABLE = 1, 4
LIBC = ctypes.CDLL(None)
PROCESS = ("pid", "process_start", "boot_id", "agent_pid", "agent_start", "host")


class Gone(Exception):  # noqa: N818 - it is no error of anybody's
    """The runner says that this run is not, or no longer, this job's."""


class Silence(Exception):  # noqa: N818
    """No answer that is the runner's."""


class Runner:
    """The runner's API, as this run may use it. The token is made here and leaves this process in requests alone."""

    def __init__(self, address: str, run_id: str) -> None:
        self._to = urlsplit(address)
        self._path = f"{self._to.path.rstrip('/')}/nodes/{run_id}"
        self.token = os.urandom(32).hex()

    def ask(self, what: str, secret: str, said: Mapping[str, object]) -> dict[str, Any]:
        """One request. Raises Gone, Silence. No redirect is followed, so the secret goes to this address alone."""
        kind = http.client.HTTPSConnection if self._to.scheme == "https" else http.client.HTTPConnection
        link = kind(self._to.hostname or "", self._to.port, timeout=PATIENCE)
        headers = {"authorization": f"Bearer {secret}", "content-type": "application/json"}
        try:
            link.request("POST", f"{self._path}/{what}", json.dumps(said).encode(), headers)
            answer = link.getresponse()
            body = answer.read(1 << 26)
            if answer.status == OVER:
                raise Gone
            found = json.loads(body) if answer.status == 200 else None
        except (OSError, ValueError, http.client.HTTPException) as error:
            raise Silence(f"{type(error).__name__}: {error}") from None
        finally:
            link.close()
        if not isinstance(found, dict):
            raise Silence(f"the answer's status is {answer.status}")
        return found


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


def record(path: Path) -> "dict[str, Any] | None":
    try:
        found = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return None
    return found if isinstance(found, dict) else None


def works(job: str) -> bool:
    """Whether Slurm says that this very job runs: then nobody takes its run for lost."""
    if not job:
        return False
    try:
        done = subprocess.run(
            ["squeue", "--noheader", f"--jobs={job}", "--format=%T"],
            capture_output=True,
            timeout=PATIENCE,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return False
    return done.returncode == 0 and done.stdout.strip() in (b"RUNNING", b"COMPLETING", b"SUSPENDED")


def begin(runner: Runner, ticket: str, place: Place) -> bool:
    """Have the runner decide that the run is this job's, and fetch it. False where it is not, or nobody answers."""
    said = {"token_sha256": hashlib.sha256(runner.token.encode()).hexdigest(), "host": os.uname().nodename}
    until, wait = since_boot() + FETCHING, 1.0
    while since_boot() < until:
        try:
            answer = runner.ask("start", ticket, said)
        except Gone:
            print("tsched: the run is not this job's: nothing is started", flush=True)
            return False
        except Silence as error:
            print(f"tsched: the runner does not answer: {error}", flush=True)
            time.sleep(wait)
            wait = min(2 * wait, SLOWEST)
            continue
        place.unpack(answer["files"])
        place.obey(answer)
        return True
    return False


def since_boot() -> float:
    return time.clock_gettime(time.CLOCK_BOOTTIME)


def die_with_parent() -> None:
    LIBC.prctl(PR_SET_PDEATHSIG, int(signal.SIGKILL), 0, 0, 0)


def start(place: Place) -> "subprocess.Popen[bytes]":
    """The shim, under its keeper, with the environment that it has everywhere: nothing of Slurm's, no secret."""
    own = {name: value for name, value in os.environ.items() if not name.startswith("SLURM")}
    words = (place.run / "shim.log").open("ab")
    with words:
        return subprocess.Popen(
            [sys.executable, "-I", "-S", "-B", "-X", "utf8", str(place.run / "shim/shim.py"), str(place.run), "kept"],
            env=own, stdin=subprocess.DEVNULL, stdout=words, stderr=words,
            preexec_fn=die_with_parent,  # noqa: PLW1509 - there is one thread here
        )  # fmt: skip


class Courier:
    """One run, from its shim's start to the runner's word that its end is known."""

    def __init__(self, runner: Runner, place: Place, shim: "subprocess.Popen[bytes]") -> None:
        self._runner = runner
        self._place = place
        self._shim = shim
        self._said = Said(place)
        self._heartbeat = float(place.spec["heartbeat"])
        self._reached = since_boot()  # when runner or Slurm last said that the run is ours
        self._wait = 0.0  # until the next attempt, while nobody answers
        self._asked = 0.0  # when Slurm was last asked

    def see_through(self) -> bool:
        """Whether the runner knows the end, or has said that it needs no word of it."""
        told: object = None
        due = 0.0
        while True:
            ended = self._shim.poll() is not None
            said = self._said.now(ended=ended)
            if since_boot() >= due or (said != told and not self._wait):
                try:
                    if self._tell(said, ended=ended):
                        return True
                    told, self._wait, self._reached = said, 0.0, since_boot()
                    if ended and not self._said.whole():
                        due = 0.0
                        continue
                    if ended and self._said.now(ended=True)["exit"] is None:
                        return False  # killed, and Slurm sees the job end
                except Gone:
                    self._place.lease.unlink(missing_ok=True)  # the shim ends the run at its next heartbeat
                    self._shim.wait()
                    return True
                except Silence:
                    self._wait = min(max(1.0, 2 * self._wait), SLOWEST)
                due = since_boot() + (self._wait or self._heartbeat)
            if not ended:
                self._mind_silence()
            time.sleep(TICK)

    def _tell(self, said: Mapping[str, object], *, ended: bool) -> bool:
        """Tell how things are, and do as the runner answers. Whether it knows the end."""
        word = {**said, "beating": self._said.beating(), "log": self._said.piece()}
        answer = self._runner.ask("word", self._runner.token, word)
        self._said.taken(answer.get("log"))
        if not ended:
            self._place.obey(answer)
        return bool(answer.get("over")) and ended

    def _mind_silence(self) -> None:
        """End the run where neither runner nor Slurm can be reached: it may be taken for lost, and started again."""
        now = since_boot()
        if now - self._reached < (SILENT - 1) * self._heartbeat:
            return
        if now - self._asked >= self._heartbeat / 2:
            self._asked = now
            if works(os.environ.get("SLURM_JOB_ID", "")):
                self._reached = now
        if now - self._reached >= SILENT * self._heartbeat:
            self._place.lease.unlink(missing_ok=True)


def main(folder: Path, address: str, run_id: str) -> int:
    LIBC.prctl(PR_SET_DUMPABLE, 0, 0, 0, 0)  # the run's agent may be of the same user: it reads no token here
    ticket = (folder / "ticket").read_text().strip()
    (folder / "ticket").unlink()
    place, runner = Place(folder, run_id), Runner(address, run_id)
    asked: list[int] = []
    signal.signal(signal.SIGTERM, lambda number, _: asked.append(number))
    try:
        if not begin(runner, ticket, place):
            return LATE
        shim = start(place)
        signal.signal(signal.SIGTERM, lambda number, _: shim.send_signal(number))
        for number in asked:
            shim.send_signal(number)
        return 0 if Courier(runner, place, shim).see_through() else 1
    finally:
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), sys.argv[2], sys.argv[3]))
