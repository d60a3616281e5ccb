"""Whether work stands still."""

from dataclasses import replace

from tsched.model.task import Task
from tsched.schedule.match import AgentSlots, Capacity
from tsched.schedule.standstill import Room, room_for


def task(number: int, queue: str = "dev") -> Task:
    return Task(id=str(number), title="t", queue=queue)


def capacity(queue: str, free: int, cap: int | None = None) -> Capacity:
    return Capacity(pool=queue, queue=queue, agents=(AgentSlots(name=f"{queue}-a", free=free),), free=cap)


def room(*tasks: Task, slots: tuple[Capacity, ...], running: dict[str, int] | None = None, **rest: int) -> Room:
    return room_for(tasks, slots, held=("9",), running_by_queue=running or {}, fleet_free=rest.get("fleet_free"))


def test_tasks_beside_free_slots_could_start() -> None:
    assert room(task(1), task(2), slots=(capacity("dev", 3),)) == Room(ready=2, free=3)


def test_busy_slots_are_no_standstill_but_slots_that_nobody_uses_are() -> None:
    assert room(task(1), slots=(capacity("dev", 0),), running={"dev": 2}) == Room()
    assert room(task(1), slots=(capacity("dev", 0),)) == Room(ready=1, free=0)


def test_free_slots_of_another_queue_help_nobody() -> None:
    busy = (capacity("dev", 0), capacity("qa", 5))
    assert room(task(1), slots=busy, running={"dev": 1}) == Room()


def test_what_somebody_decided_is_no_standstill() -> None:
    shut = replace(capacity("dev", 0), shut=True)
    assert room(task(1), slots=(shut,)) == Room()
    assert room(task(1), task(2, "qa"), slots=(shut, capacity("qa", 1))) == Room(ready=1, free=1)


def test_a_fleet_that_runs_all_it_may_is_busy_though_one_queue_has_no_run() -> None:
    slots = (capacity("dev", 2), capacity("qa", 0))
    assert room(task(1), task(2, "qa"), slots=slots, running={"qa": 3}, fleet_free=0) == Room()


def test_a_task_whose_own_agent_is_busy_could_not_start_beside_the_free_slots_of_others() -> None:
    agents = (AgentSlots(name="ada", free=0), AgentSlots(name="ben", free=2, priority_floor=5))
    both = Capacity(pool="dev", queue="dev", agents=agents)
    mine, bens, low, high = (
        replace(task(1), assigned_to="ada"), replace(task(2, "qa"), assigned_to="ben", priority=5),
        replace(task(3), priority=4), replace(task(4), priority=5),
    )  # fmt: skip
    assert room(mine, low, slots=(both,), running={"dev": 1}) == Room()
    assert room(mine, bens, low, high, slots=(both,), running={"dev": 1}) == Room(ready=2, free=2, running=1)
    assert room(mine, low, slots=(both,)) == Room(ready=2, free=2), "nothing runs at all"


def test_agents_that_take_no_unassigned_task_let_none_wait() -> None:
    own = replace(capacity("dev", 1), own_only=True)
    assert room(task(1), slots=(own,)) == Room()
    assert room(replace(task(1), assigned_to="dev-a"), slots=(own,)) == Room(ready=1, free=1)


def test_caps_take_slots_away_and_held_tasks_do_not_count() -> None:
    assert room(task(1), slots=(capacity("dev", 5, cap=2),), running={"dev": 1}) == Room(ready=1, free=2, running=1)
    assert room(task(1), slots=(capacity("dev", 5),), running={"dev": 1}, fleet_free=0) == Room()
    assert room(task(9), slots=(capacity("dev", 5),)) == Room()
