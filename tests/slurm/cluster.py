"""A real Slurm of one node, started by hand from Debian's packages: munged, slurmctld, slurmd."""

import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "squeue", "scancel", "scontrol")
PATH = "/usr/sbin:/usr/bin:/sbin:/bin"
PATIENCE = 60.0  # seconds
CPUS = os.cpu_count() or 1
HOST = os.uname().nodename.partition(".")[0]
CONF = """\
ClusterName=tsched
SlurmctldHost={host}(127.0.0.1)
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket={root}/munge/munge.socket
CredType=cred/munge
SlurmctldPort={port}
SlurmdPort={port_of_node}
StateSaveLocation={root}/state
SlurmdSpoolDir={root}/spool
SlurmctldPidFile={root}/run/slurmctld.pid
SlurmdPidFile={root}/run/slurmd.pid
SlurmctldLogFile={root}/log/slurmctld.log
SlurmdLogFile={root}/log/slurmd.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SwitchType=switch/none
MpiDefault=none
SchedulerType=sched/builtin
SchedulerParameters=batch_sched_delay=0,sched_interval=1
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
ReturnToService=2
MinJobAge=3600
KillWait=2
MessageTimeout=3
SlurmdTimeout=15
DefMemPerCPU=100
FirstJobId={first}
NodeName={host} NodeAddr=127.0.0.1 CPUs={cpus} RealMemory=2000 Feature=here State=UNKNOWN
PartitionName=main Nodes=ALL Default=YES MaxTime=INFINITE State=UP
"""


def why_not() -> str:
    """Why no cluster can be started here, "" where one can."""
    missing = [name for name in PROGRAMS if shutil.which(name, path=PATH) is None]
    if missing:
        return f"no {', '.join(missing)} here: `make test-slurm` installs Debian's slurm-wlm and munge"
    return "" if os.geteuid() == 0 else "only root can start slurmctld and slurmd by hand"


def _free_ports() -> int:
    """The first of two ports, one after the other, that nobody uses."""
    while True:
        with socket.socket() as one, socket.socket() as other:
            one.bind(("127.0.0.1", 0))
            port = int(one.getsockname()[1])
            try:
                other.bind(("127.0.0.1", port + 1))
            except OSError:
                continue
            return port


class Overheard:
    """What Slurm was asked by commands in a folder. `path`: with that folder first."""

    def __init__(self, folder: Path) -> None:
        self._asked = folder / "asked"
        self.path = f"{folder}:{PATH}"

    def since(self) -> list[str]:
        """The commands since the last look, each with its arguments."""
        lines = self._asked.read_text().splitlines() if self._asked.exists() else []
        self._asked.write_text("")
        return lines


class Cluster:
    """One node in a folder that others may pass through (munged insists). Its daemons are ended one by one."""

    def __init__(self, root: Path) -> None:
        port = _free_ports()
        self.root = root
        self.conf = root / "slurm.conf"
        self.environ: Mapping[str, str] = {"PATH": PATH, "SLURM_CONF": str(self.conf), "LANG": "C.UTF-8"}
        self._daemons: dict[str, subprocess.Popen[bytes]] = {}
        self.hidden = root / "hidden"  # jobs find nothing in it: to them it is another, empty folder
        for name in ("munge", "state", "spool", "run", "log", "hidden"):
            (root / name).mkdir(mode=0o755)
        self._settings = {"host": HOST, "root": root, "port": port, "port_of_node": port + 1, "cpus": CPUS}
        self._first = 1  # the least number of a job
        (root / "munge" / "key").write_bytes(os.urandom(128))
        (root / "munge" / "key").chmod(0o400)

    def start(self) -> None:
        """All three, and wait until jobs can run."""
        munge = self.root / "munge"
        files = {
            "key-file": "key",
            "socket": "munge.socket",
            "pid-file": "pid",
            "log-file": "log",
            "seed-file": "seed",
        }
        self._configure(self._first)
        self._run("munged", "--foreground", "--force", *(f"--{flag}={munge / name}" for flag, name in files.items()))
        self.start_controller()
        self.start_node()
        self.until(lambda: "idle" in self.ask("sinfo", "--noheader", "--format=%t"), "the node is idle")

    def _configure(self, first: int) -> None:
        self.conf.write_text(CONF.format(**self._settings, first=first))

    def start_controller(self, *, forgetting_from: int = 0) -> None:
        """Each counts jobs from a number that none had before; `forgetting_from`: from that one, all forgotten.

        One that was killed forgets what was new in its last seconds. slurmd does not: where a job gets the number of
        one that it was never told to end, it takes it for a second copy, and the node is drained.
        """
        self._first += 1000
        self._configure(forgetting_from or self._first)
        for one in self.root.glob("state/job_state*") if forgetting_from else ():
            one.unlink()  # -c forgets all that is in it, but not the last number
        self._run("slurmctld", "-D", *(["-c"] if forgetting_from else []))
        self.until(lambda: "UP" in self.ask("scontrol", "ping"), "slurmctld answers")

    def start_node(self) -> None:
        hide = 'mount -t tmpfs -o mode=755 none "$1" && shift && exec "$@"'
        own = ("unshare", "--mount", "--propagation=private", "sh", "-c", hide, "sh", str(self.hidden))
        self._run("slurmd", "-D", "-N", HOST, within=own)

    def kill(self, name: str) -> None:
        """kill -9 of a daemon, seen through."""
        self.signal(name, signal.SIGKILL)
        self._daemons.pop(name).wait()

    def end(self, name: str) -> None:
        """A daemon ends in good order: a controller writes down all that it knows first."""
        self.signal(name, signal.SIGTERM)
        self._daemons.pop(name).wait()

    def signal(self, name: str, number: signal.Signals) -> None:
        self._daemons[name].send_signal(number)

    def stop(self) -> None:
        """Everything, jobs first."""
        for name in ("slurmctld", "slurmd"):
            if name in self._daemons:
                self.signal(name, signal.SIGCONT)
        if "slurmctld" in self._daemons:
            self.ask("scancel", "--signal=KILL", "--full", "--user=root")
            self.ask("scancel", "--user=root")
        for name in list(self._daemons)[::-1]:
            self.kill(name)

    def revive(self) -> None:
        """As after a test that ended daemons, stopped them or left jobs: all up, the node idle, no job."""
        for process in self._daemons.values():
            process.send_signal(signal.SIGCONT)
        if "slurmctld" not in self._daemons:
            self.start_controller()
        if "slurmd" not in self._daemons:
            self.start_node()
        self.ask("scancel", "--user=root")
        self.until(self._fresh, "the node is idle again")

    def _fresh(self) -> bool:
        """Whether the node waits for work, and holds on to no job that the controller may have forgotten."""
        state = self.ask("sinfo", "--noheader", "--format=%t").strip()
        if state.startswith(("drain", "down")):
            self.ask("scontrol", "update", f"NodeName={HOST}", "State=RESUME")
        return state == "idle" and not list((self.root / "spool").glob(f"{HOST}_*"))

    def ask(self, *command: str) -> str:
        """What a command of Slurm's says; "" where it fails or takes too long."""
        try:
            done = subprocess.run(
                command, env=dict(self.environ), capture_output=True, text=True, timeout=20, check=False
            )
        except subprocess.TimeoutExpired:
            return ""
        return done.stdout if done.returncode == 0 else ""

    def overheard(self, folder: Path) -> "Overheard":
        """Slurm's commands, each noted before it is what it is."""
        folder.mkdir()
        for name in ("sbatch", "squeue", "scancel"):
            program = folder / name
            program.write_text(f'#!/bin/sh\necho {name} "$@" >> {folder}/asked\nexec {shutil.which(name)} "$@"\n')
            program.chmod(0o755)
        return Overheard(folder)

    def jobs(self) -> Sequence[tuple[str, str]]:
        """Name and state of each job that the controller remembers."""
        lines = self.ask("squeue", "--noheader", "--states=all", "--format=%j %T").splitlines()
        return [(name, state) for name, _, state in (line.partition(" ") for line in lines)]

    def until(self, seen: Callable[[], bool], what: str) -> None:
        end = time.monotonic() + PATIENCE
        while not seen():
            assert time.monotonic() < end, f"did not happen: {what}\n{self.logs()}"
            time.sleep(0.1)

    def logs(self) -> str:
        return "\n".join(path.read_text(errors="replace")[-600:] for path in sorted((self.root / "log").iterdir()))

    def _run(self, name: str, *arguments: str, within: Sequence[str] = ()) -> None:
        log = (self.root / "log" / f"{name}.out").open("ab")
        self._daemons[name] = subprocess.Popen(
            [*within, shutil.which(name, path=PATH) or name, *arguments], env=dict(self.environ),
            stdout=log, stderr=log, start_new_session=True,
        )  # fmt: skip
        log.close()
