"""The local executor: what is pinned before the claim, liveness over restarts of the runner, stop and recall."""

import fcntl
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.integration.local_runs import R1, Place, launch_of, python, shell, wait_for
from tsched.executors.executor import Liveness
from tsched.model.errors import ConfigurationError, TransientError
from tsched.model.fleet import Parameter, Recipe, RecipeFile, Runtime
from tsched.model.run import ExitReason
from tsched.model.task import Task

HOSTILE = (
    "$(touch owned)", "`touch owned`", "; touch owned", "| touch owned", "--help", "-rf", "-", "", " ", "\n",
    "a\nb\n-c", "../../etc/passwd", "/etc/passwd", "{recipe} {prompt} {workspace}", "{{ recipe_dir }}{% raw %}",
    "%s%n", "'\"\\",
    "naïve 🛠️ \u2028 \u202e", "\x1b[31mred", "NUL\0here", "lone \ud800 surrogate", "TSCHED_RUN_ID=r9", "=", "--params",
)  # fmt: skip


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


# -- prepare ---------------------------------------------------------------------------------------------------------


def test_a_run_is_pinned_whole_and_private(place: Place) -> None:
    files = tuple(
        RecipeFile(path=path, blob="b" * 40, text=f"title: {path}\n")
        for path in ("recipes/team/vaela.yaml", "recipes/team/parts/check.yaml")
    )
    recipe = Recipe(path="recipes/team/vaela.yaml", title="Vaela", prompt="Do it", files=files)
    runtime = Runtime(
        name="show", argv=("/bin/sh", "-c", 'cat "$1" "$(dirname "$1")/parts/check.yaml"', "x", "{recipe}")
    )
    run_id = place.launch(launch_of(runtime, recipe=recipe))
    assert place.ended(run_id).exit_code == 0
    assert place.log(run_id) == "title: recipes/team/vaela.yaml\ntitle: recipes/team/parts/check.yaml\n"
    for path in [place.runs, place.workspaces, *place.runs.rglob("*")]:
        open_to_others = path.stat().st_mode & 0o077
        assert not open_to_others or path.is_dir()
    assert (place.runs / R1).stat().st_mode & 0o777 == 0o700


def test_the_recorded_run_is_read_back(place: Place) -> None:
    launch = launch_of(shell("true"))
    place.executor.prepare(launch)
    run = place.another().run(R1)
    assert run is not None
    assert (run.task_id, run.agent, run.attempt, run.created_at) == ("7", "vaela", 1, launch.run.created_at)
    assert run.workspace == str(place.workspaces / R1)


def test_a_program_that_is_missing_is_said_before_the_claim_and_leaves_nothing(place: Place) -> None:
    with pytest.raises(ConfigurationError, match="no program `goose-of-nobody` on PATH"):
        place.executor.prepare(launch_of(Runtime(name="goose", argv=("goose-of-nobody",))))
    assert place.executor.poll() == {}
    assert not place.runs.exists() or list(place.runs.iterdir()) == []


def test_a_required_variable_that_is_missing_is_named(place: Place) -> None:
    runtime = Runtime(name="tests", argv=("/bin/true",), env=("CI",))
    with pytest.raises(ConfigurationError, match=r"runtime `tests` needs the variable CI.*TSCHED_PASS_ENV"):
        place.executor.prepare(launch_of(runtime))


@pytest.mark.parametrize("task_id", ["../7", "a/b", "", "x" * 65, "7\n"])
def test_a_task_id_that_is_no_file_name_is_refused(place: Place, task_id: str) -> None:
    with pytest.raises(ConfigurationError, match="can't name a file"):
        place.executor.prepare(launch_of(shell("true"), task=Task(id=task_id, title="t", queue="dev")))


def test_a_recipe_file_may_not_leave_the_runs_folder(place: Place) -> None:
    files = (RecipeFile(path="recipes/../../../owned", blob="b" * 40, text="x"),)
    with pytest.raises(ConfigurationError, match="no path of a recipe"):
        place.executor.prepare(
            launch_of(shell("true"), recipe=Recipe(path="recipes/v.yaml", title="v", prompt="p", files=files))
        )


def test_a_disk_that_refuses_is_transient_and_leaves_nothing(place: Place) -> None:
    place.runs.write_text("a file in the way")
    with pytest.raises(TransientError, match=f"{R1} can't be prepared"):
        place.executor.prepare(launch_of(shell("true")))
    assert not (place.workspaces / R1).exists()


def test_a_half_made_folder_of_a_killed_runner_is_no_run_and_is_swept(place: Place) -> None:
    (place.runs / ".new_r0" / "recipe").mkdir(parents=True)
    (place.runs / ".gone_r0").mkdir()
    assert place.executor.poll() == {}
    place.executor.tidy()
    place.executor.prepare(launch_of(shell("true")))
    assert [entry.name for entry in place.runs.iterdir()] == [R1]


# -- task text is data -----------------------------------------------------------------------------------------------


def echo_of(place: Place, runtime: Runtime, task: Task) -> tuple[list[str], dict[str, str], dict[str, object]]:
    """The argv, environment and task file that an agent truly saw."""
    show = (
        "import json,os,sys; task = json.load(open(os.environ['TSCHED_TASK_FILE']));"
        "json.dump([sys.argv[1:], dict(os.environ), task], open('seen','w'))"
    )
    program = python(show).argv
    recipe = Recipe(
        path="recipes/v.yaml",
        title="v",
        prompt="{{ task_title }}",
        parameters=(Parameter(key="task_title"), Parameter(key="task_description")),
    )
    launch = launch_of(
        Runtime(name="echo", argv=(*program, *runtime.argv), parameters=runtime.parameters), task=task, recipe=recipe
    )
    run_id = place.launch(launch)
    end = place.ended(run_id)
    assert (end.exit_code, end.detail) == (0, ""), place.log(run_id)
    folder = place.workspaces / run_id
    assert [entry.name for entry in folder.iterdir()] == ["seen"]
    argv, env, shown = json.loads((folder / "seen").read_text())
    place.executor.discard(run_id, succeeded=True)
    return argv, env, shown


@pytest.mark.parametrize("text", HOSTILE)
def test_hostile_task_text_reaches_the_agent_as_text(place: Place, text: str) -> None:
    runtime = Runtime(name="r", argv=("{prompt}", "say: {prompt}", "--literal={{x}}"), parameters="--params")
    task = Task(id="7", title=text, queue="dev", description=text)
    argv, env, shown = echo_of(place, runtime, task)
    expected = text.replace("\0", "").replace("\ud800", "?")
    guard = "\n" if expected.startswith("-") else ""
    assert argv[:3] == [guard + expected, f"say: {expected}", "--literal={{x}}"]
    assert argv[3:] == ["--params", f"task_title={expected}", "--params", f"task_description={expected}"]
    assert env["TSCHED_TASK_TITLE"] == env["TSCHED_TASK_DESCRIPTION"] == expected
    assert shown["title"] == shown["description"] == expected


def test_a_megabyte_of_text_is_cut_where_the_kernel_would_refuse_it_and_whole_in_the_file(place: Place) -> None:
    text = "ü" * 500_000
    argv, env, shown = echo_of(
        place,
        Runtime(name="r", argv=("{prompt}",), parameters="--params"),
        Task(id="7", title=text, queue="dev", description=text),
    )
    assert shown["description"] == text
    for value in (argv[0], argv[2], env["TSCHED_TASK_DESCRIPTION"]):
        assert len(value.encode()) <= 100 * 1024
        assert value.endswith("[cut here: the whole text is in the file that TSCHED_TASK_FILE names]")


@settings(max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(text=st.text(max_size=60))
def test_any_text_at_all_reaches_the_agent_as_text(place: Place, text: str) -> None:
    argv, _, _ = echo_of(place, Runtime(name="r", argv=("x{prompt}",)), Task(id="7", title=text, queue="dev"))
    assert argv == ["x" + text.replace("\0", "")]


def test_the_environment_is_exactly_what_is_allowed(tmp_path: Path) -> None:
    place = Place(tmp_path, LANG="C.UTF-8", TZ="UTC", TMPDIR="/tmp", SECRET="s", OPENAI_API_KEY="k", GIT_DIR="/x")
    place.executor = place.another(pass_env=("OPENAI_API_KEY", "NOT_SET", "TSCHED_RUN_ID"))
    run_id = place.launch(launch_of(Runtime(name="env", argv=("env", "-0"))))
    assert place.ended(run_id).exit_code == 0
    names = {item.partition("=")[0] for item in place.log(run_id).split("\0") if item}
    assert names == {
        *("PATH", "HOME", "LANG", "TZ", "TMPDIR", "OPENAI_API_KEY", "TSCHED_RUN_ID", "TSCHED_TASK_ID"),
        *("TSCHED_TASK_TITLE", "TSCHED_TASK_DESCRIPTION", "TSCHED_TASK_QUEUE", "TSCHED_TASK_PRIORITY"),
        "TSCHED_TASK_FILE",
    }
    assert f"TSCHED_RUN_ID={R1}" in place.log(run_id)


# -- liveness --------------------------------------------------------------------------------------------------------


def test_a_run_goes_on_without_its_runner_and_its_result_is_found_again(place: Place, tmp_path: Path) -> None:
    script = f"until test -e {tmp_path}/go; do sleep 0.05; done; exit 8"
    run_id = place.launch(launch_of(shell(script)))
    place.until_running()
    place.executor = place.another()
    assert place.executor.poll() == {run_id: Liveness.ALIVE}
    assert place.executor.recover(run_id) is None
    (tmp_path / "go").touch()
    assert place.ended(run_id).exit_code == 8
    assert place.another().exit(run_id) == place.executor.exit(run_id)


def test_a_shim_just_started_counts_as_alive_before_it_holds_its_lock(place: Place) -> None:
    place.prepare(launch_of(shell("exec sleep 300")))
    place.executor.start(R1)
    assert place.executor.poll() == {R1: Liveness.ALIVE}
    place.until_running()
    place.finish(R1)


def test_a_run_with_its_end_on_record_is_not_ended_while_its_shim_still_lets_go_of_the_lease(place: Place) -> None:
    place.prepare(launch_of(shell("true")))
    (place.runs / R1 / "exit.json").write_text(json.dumps({"run_id": R1, "reason": "exited", "started": True}))
    with (place.runs / R1 / "lock").open() as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert place.executor.poll() == {R1: Liveness.ALIVE}
    assert place.executor.poll() == {R1: Liveness.ENDED}


def test_two_who_look_at_once_do_not_take_each_other_for_a_shim(place: Place) -> None:
    place.prepare(launch_of(shell("true")))
    with (place.runs / R1 / "lock").open() as lock:
        fcntl.flock(lock, fcntl.LOCK_SH)
        assert place.executor.poll() == {R1: Liveness.LOST}


def test_looking_never_creates_anything(tmp_path: Path) -> None:
    place = Place(tmp_path / "state")
    assert place.executor.poll() == {}
    assert place.executor.run(R1) is None
    assert place.executor.exit(R1) is None
    assert place.executor.tail(R1) == ""
    assert not (tmp_path / "state").exists()


def test_no_zombie_is_left(place: Place) -> None:
    before = children()
    for number in range(5):
        run = launch_of(shell("true"), run_id=f"r{number}", task=Task(id=str(number), title="t", queue="dev"))
        place.launch(run)
    wait_for(lambda: set(place.executor.poll().values()) == {Liveness.ENDED} and len(children() - before) <= 1)
    place.executor.close()  # with the server of shims
    wait_for(lambda: place.executor.poll() and children() <= before)


def children() -> set[str]:
    return set(Path(f"/proc/self/task/{os.getpid()}/children").read_text().split())


def test_an_unreadable_exit_record_does_not_hold_a_run_for_ever(place: Place) -> None:
    run_id = place.launch(launch_of(shell("true")))
    place.ended(run_id)
    (place.runs / run_id / "exit.json").write_bytes(b"\x00\xff")
    end = place.executor.exit(run_id)
    assert end is not None
    assert (end.reason, end.started) == (ExitReason.SHIM_DIED, True)


@pytest.mark.parametrize("name", ["run.json", "spec.json"])
def test_an_unreadable_record_is_told_and_can_be_cleared_away(place: Place, name: str) -> None:
    place.prepare(launch_of(shell("true")))
    (place.runs / R1 / name).write_bytes(b"\xff{")
    place.executor.start(R1)
    wait_for(lambda: place.executor.poll()[R1] is not Liveness.ALIVE)
    assert (place.executor.run(R1) is None) == (name == "run.json")
    if place.executor.poll()[R1] is Liveness.LOST:
        assert place.executor.recover(R1) is not None
    place.executor.discard(R1, succeeded=False)
    assert place.executor.poll() == {}
    assert list(place.workspaces.glob("r*")) == []


# -- stop and recall -------------------------------------------------------------------------------------------------


def test_a_stop_at_a_later_time_holds_without_a_runner(place: Place) -> None:
    run_id = place.launch(launch_of(shell("exec sleep 300")))
    place.until_running()
    at = time.time() + 1
    place.executor.stop([run_id], reason=ExitReason.DRAIN, at=at)
    place.executor = place.another()
    assert not place.executor.stopping(run_id)
    end = place.ended(run_id)
    assert end.reason is ExitReason.DRAIN
    assert end.ended_at >= at


def test_the_earlier_of_two_requests_stands(place: Place) -> None:
    place.prepare(launch_of(shell("true")))
    request = place.runs / R1 / "stop"
    for at, stands in ((500.0, 500.0), (900.0, 500.0), (200.0, 200.0), (200.0, 200.0)):
        place.executor.stop([R1], reason=ExitReason.DRAIN, at=at)
        assert json.loads(request.read_text()) == {"at": stands, "reason": "drain"}


def test_asking_an_absent_run_to_stop_creates_nothing(place: Place) -> None:
    place.executor.stop([R1], reason=ExitReason.DRAIN, at=0)
    assert not (place.runs / R1).exists()


def test_a_recalled_stop_stops_nothing(place: Place) -> None:
    run_id = place.launch(launch_of(shell("exec sleep 300"), heartbeat=0.05))
    place.until_running()
    place.executor.stop([run_id], reason=ExitReason.DRAIN, at=time.time() + 3600)
    assert place.executor.recall(run_id)
    assert place.executor.recall(run_id)
    assert list((place.runs / run_id).glob("stop*")) == []
    assert place.finish(run_id).reason is ExitReason.STOPPED


def test_a_run_that_has_begun_to_stop_can_not_be_recalled(place: Place) -> None:
    run_id = place.launch(launch_of(shell("trap '' TERM; echo up; while :; do sleep 0.1; done"), stop_grace=3))
    place.until_running()
    wait_for(lambda: place.log(run_id))
    place.executor.stop([run_id], reason=ExitReason.DRAIN, at=0)
    wait_for(lambda: place.executor.stopping(run_id))
    assert not place.executor.recall(run_id)
    place.executor.stop([run_id], reason=ExitReason.CANCELLED, at=0)
    assert not (place.runs / run_id / "stop").exists()
    end = place.ended(run_id)
    assert (end.reason, end.exit_code) == (ExitReason.DRAIN, 137)
    assert not place.executor.stopping(run_id)


def test_a_drain_that_is_taken_back_leaves_a_cancelled_run_to_its_end(place: Place) -> None:
    run_id = place.launch(launch_of(shell("trap '' TERM; echo up; while :; do sleep 0.1; done"), stop_grace=3))
    place.until_running()
    wait_for(lambda: place.log(run_id))
    place.executor.stop([run_id], reason=ExitReason.CANCELLED, at=0)
    wait_for((place.runs / run_id / "stopping").exists)
    assert not place.executor.stopping(run_id), "the agent is not stopping, one of its tasks is"
    assert place.executor.recall(run_id)
    assert place.ended(run_id).reason is ExitReason.CANCELLED


def test_a_stop_that_is_due_before_the_start_starts_nothing(place: Place) -> None:
    place.prepare(launch_of(shell("echo started")))
    place.executor.stop([R1], reason=ExitReason.CANCELLED, at=0)
    place.executor.start(R1)
    end = place.ended(R1)
    assert (end.reason, end.started) == (ExitReason.CANCELLED, False)
    assert not (place.logs / f"{R1}.log").exists()


# -- afterwards ------------------------------------------------------------------------------------------------------


def test_discard_leaves_the_log_alone_and_can_be_repeated(place: Place) -> None:
    run_id = place.launch(launch_of(shell("echo hello; mkdir a; touch a/b; chmod 500 a")))
    place.ended(run_id)
    for _ in range(2):
        place.executor.discard(run_id, succeeded=True)
        assert place.executor.poll() == {}
    assert [entry.name for entry in place.root.rglob("*") if run_id in entry.name] == [f"{R1}.log"]
    assert place.executor.tail(run_id) == "hello"


def test_the_tail_is_the_last_lines_of_any_log(place: Place) -> None:
    place.logs.mkdir(parents=True)
    log = place.logs / f"{R1}.log"
    log.write_bytes(b"".join(b"line %d\n" % number for number in range(100)))
    assert place.executor.tail(R1, lines=2) == "line 98\nline 99"
    log.write_bytes(b"\xff\0" + b"x" * 3_000_000)
    assert len(place.executor.tail(R1, lines=5000)) == 1024 * 1024
    log.write_bytes(b"a\0\xff\n")
    assert place.executor.tail(R1) == "a\ufffd\ufffd"


def test_two_programs_may_ask_for_a_stop_at_the_same_time(place: Place) -> None:
    """`tsched stop --now` and the runner that it wakes."""
    place.prepare(launch_of(shell("true")))
    ask = (
        "import sys; from pathlib import Path; from tests.integration.local_runs import Place\n"
        "from tsched.model.run import ExitReason\n"
        "place = Place(Path(sys.argv[1]))\n"
        "for at in range(400, 0, -1): place.executor.stop([sys.argv[2]], reason=ExitReason.STOPPED, at=at)\n"
    )
    command = [sys.executable, "-c", ask, str(place.root), R1]
    both = [subprocess.Popen(command, stderr=subprocess.PIPE, text=True) for _ in range(2)]
    assert [(one.communicate()[1], one.returncode) for one in both] == [("", 0), ("", 0)]
    assert json.loads((place.runs / R1 / "stop").read_text()) == {"at": 1, "reason": "stopped"}
    assert not list((place.runs / R1).glob(".stop*"))
