"""The courier: a run on its node, from the job's start to the runner's word that its end is known."""

import ctypes
import hashlib
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path

from .line import Gone, Runner, Silence, works
from .place import Place
from .said import Said

SLOWEST = 30.0  # seconds between two attempts while nobody answers
FETCHING = 600.0  # seconds that a job waits for the runner before it has its run
TICK = 0.2  # seconds between two looks at what the shim has written
SILENT = 4  # heartbeats without a word from runner or Slurm after which the run is ended: DESIGN section 4
LATE = 3  # exit status of a job that came too late
PR_SET_PDEATHSIG, PR_SET_DUMPABLE = 1, 4
LIBC = ctypes.CDLL(None)


def main(place_of_run: str, address: str, run_id: str, runner_id: str) -> int:
    """See the run through. Returns the job's exit status."""
    folder = Path(place_of_run)
    LIBC.prctl(PR_SET_DUMPABLE, 0, 0, 0, 0)  # the run's agent may be of the same user: it reads no token here
    ticket = (folder / "ticket").read_text().strip()
    (folder / "ticket").unlink()
    place, runner = Place(folder, run_id), Runner(address, run_id, runner_id)
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
            if works(os.environ.get("SLURM_JOB_ID", ""), self._place.run.name):
                self._reached = now
        if now - self._reached >= SILENT * self._heartbeat:
            self._place.lease.unlink(missing_ok=True)


def since_boot() -> float:
    return time.clock_gettime(time.CLOCK_BOOTTIME)
