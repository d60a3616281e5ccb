"""What happens in a team's life while the program is killed: each act is played until it is wholly over."""

from collections.abc import Callable, Mapping

from tests.e2e.world import RECIPE, pool
from tests.faults.machine import Machine, kill

TREE = "workspace: {{repo: {repo}, ref: main, keep: never, hooks: {{after_create: 'true', before_remove: 'true'}}}}\n"
QUICK = "drain: {deadline: 1ms, on_deadline: requeue}\n"


def dev(*agents: str) -> str:
    return pool("dev", *agents, extra=QUICK, limit=2)


def tree(machine: Machine) -> str:
    """A pool whose runs have a git worktree each, of the fleet's own repository."""
    return pool("tree", "cy", extra=TREE.format(repo=machine.world.remote))


def begin(machine: Machine) -> None:
    """The fleet that all acts share."""
    machine.fleet(dev=dev("ada", "ben"), tree=tree(machine), qa=pool("qa", "dot"))


def renew(machine: Machine) -> None:
    """Other recipes: breakers that kills have opened are closed."""
    machine.world.recipes("ada", "ben", "cy", "dot", text=f"{RECIPE}# {machine.kills}\n")
    machine.world.push("other recipes")


def work(machine: Machine) -> None:
    """Tasks that succeed: one leaves processes behind, one waits for another."""
    first = machine.add("work")
    machine.until_ended(first, machine.add("fork"), machine.add("work", after=first))


def fail(machine: Machine) -> None:
    """A new revision, and a task that never succeeds."""
    machine.world.recipes("dot", text=f"{RECIPE}# {len(machine.tasks)}\n")
    tip = machine.world.push("another recipe")
    machine.until(lambda: machine.revision() == tip, "the revision is applied")
    machine.until_ended(machine.add("fail", queue="qa"))


def drain(machine: Machine) -> None:
    """An agent that is at work is removed, and comes back."""
    task = machine.add("hold", assign="ben")
    machine.until_running(task)
    machine.world.push("without ben", dev=dev("ada"))
    machine.until(lambda: ("ben", "dev") not in machine.serving(), "ben drains")
    machine.open(task)
    machine.until_ended(task)
    tip = machine.world.push("with ben", dev=dev("ada", "ben"))
    machine.until(lambda: machine.revision() == tip, "ben is back")


def worktree(machine: Machine) -> None:
    """Work in a git worktree, and work that was left unsaved there."""
    machine.world.recipes("cy", text=f"{RECIPE}# {len(machine.tasks)}\n")
    machine.world.push("another recipe")
    machine.until_ended(machine.add("work", queue="tree"), machine.add("unsaved", queue="tree"))


def cancel(machine: Machine) -> None:
    """A person takes a task back while its agent, which does not heed TERM, is at work."""
    task = machine.add("stubborn")
    machine.until_running(task)
    machine.queue.cancel(task)
    machine.until_ended(task)


def halt(machine: Machine) -> None:
    """An operator stops everything and goes on."""
    task = machine.add("hold")
    machine.until_running(task)
    machine.order("stop", "--now")
    machine.until(lambda: machine.task(task).status == "idle", "the task is back")
    machine.open(task)
    machine.order("resume")
    machine.until_ended(task)


def lose(machine: Machine) -> None:
    """A shim is killed, and then an agent."""
    for victim in ("pid", "agent_pid"):
        task = machine.add("hold")
        lease = machine.until_running(task)
        kill(int(str(lease[victim])))
        machine.open(task)
        machine.until_ended(task)


def reject(machine: Machine) -> None:
    """A bad commit, then a good one."""
    bad = machine.world.push("bad", dev="kind: Pool\n")
    machine.until(lambda: f"{bad[:12]} rejected" in machine.log.read_text(), "it is rejected")
    tip = machine.world.push("good", dev=dev("ada", "ben"))
    machine.until(lambda: machine.revision() == tip, "the good one is applied")


def reboot(machine: Machine) -> None:
    """The machine goes down with a run of each kind on it."""
    tasks = [machine.add(title) for title in ("hold", "stubborn", "fork")]
    for task in tasks[:2]:
        machine.until_running(task)
    machine.reboot()
    machine.queue.cancel(tasks[1])
    machine.open(tasks[0])
    machine.until_ended(*tasks)


ACTS: Mapping[str, Callable[[Machine], None]] = {
    act.__name__: act for act in (work, fail, drain, worktree, cancel, halt, lose, reject, reboot)
}
