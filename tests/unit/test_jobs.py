"""A run as a job of Slurm: what it asks for, and what Slurm's words about it mean."""

import ast
import subprocess
from pathlib import Path

import pytest

from tsched.executors import jobs
from tsched.executors.jobs import Job, Word
from tsched.model.fleet import Resources
from tsched.model.placement import Slurm
from tsched.model.run import ExitReason


def job(state: str, reason: str = "None") -> Job:
    return Job(id="7", state=state, reason=reason, nodes="n1")


def test_resources_and_slurm_become_options_of_whole_words() -> None:
    asked = Slurm(partition="agents", account="a", constraint="x&y", time=90.0)
    assert jobs.options(asked, Resources(cpus=1.5, memory=(1 << 30) + 1)) == [
        "--partition=agents", "--account=a", "--constraint=x&y", "--cpus-per-task=2", "--mem=1025M", "--time=2",
    ]  # fmt: skip
    assert jobs.options(Slurm(), Resources()) == []


def test_the_script_gives_its_variables_and_no_others(tmp_path: Path) -> None:
    folder = tmp_path / "it's a $(run)"
    (folder / "shim").mkdir(parents=True)
    (folder / "shim/shim.py").write_text("import os, sys; print(sorted(os.environ), os.environ['HOME'], sys.argv[1])")
    text = jobs.script(folder, {"HOME": "/a 'b' $(c)", "PATH": "/usr/bin:/bin", "TSCHED_TASKS_TOKEN": "canary"})
    assert "canary" not in text
    done = subprocess.run(
        ["/bin/sh", "-c", text],
        capture_output=True,
        text=True,
        check=True,
        env={"PATH": "/usr/bin:/bin", "MORE": "no"},
    )
    names = [name for name in ast.literal_eval(done.stdout.partition("]")[0] + "]") if name != "LC_CTYPE"]
    assert names == ["HOME", "PATH", "TSCHED_RUN_ID"]
    assert f"/a 'b' $(c) {folder}" in done.stdout


def test_jobs_of_others_are_not_ours_and_the_living_one_of_a_name_counts() -> None:
    text = (
        "1|RUNNING|None|n1|somebody|tsched-r0\n"
        "2|FAILED|NonZeroExitCode|n1|tsched-r1\n"
        "3|PENDING|Priority||tsched-r1\n"
        "4|CANCELLED|None||tsched-r1\n"
        "\n"
    )
    assert jobs.listed(text) == {"r1": Job(id="3", state="PENDING", reason="Priority", nodes="")}


@pytest.mark.parametrize(
    ("seen", "word"),
    [
        (None, Word.NONE),
        (job("PENDING", "Priority"), Word.WAITING),
        (job("PENDING", "Resources"), Word.WAITING),
        (job("PENDING", "ReqNodeNotAvail"), Word.WAITING),
        (job("PENDING", "PartitionConfig"), Word.REFUSED),
        (job("PENDING", "AssocMaxCpuPerJobLimit"), Word.REFUSED),
        (job("RUNNING"), Word.RUNNING),
        (job("COMPLETING"), Word.RUNNING),
        (job("SOMETHING_NEW"), Word.RUNNING),
        (job("COMPLETED"), Word.OVER),
        (job("OUT_OF_MEMORY"), Word.OVER),
        (job("NODE_FAIL"), Word.NODE_LOST),
    ],
)
def test_what_a_jobs_state_comes_to(seen: Job | None, word: Word) -> None:
    assert jobs.word(seen) is word


@pytest.mark.parametrize(
    ("said", "refused"),
    [
        ("invalid partition specified: nope; Batch job submission failed: Invalid partition name specified", True),
        ("Memory specification can not be satisfied", True),
        ("Batch job submission failed: Invalid account or account/partition combination specified", True),
        ("Unable to contact slurm controller (connect failure)", False),
        ("Batch job submission failed: Socket timed out on send/recv operation", False),
        ("Batch job submission failed: Invalid authentication credential", False),
        ("Slurm temporarily unable to accept job, sleeping and retrying", False),
    ],
)
def test_a_refusal_is_about_the_request(said: str, refused: bool) -> None:
    assert jobs.refusal(said) is refused


@pytest.mark.parametrize(
    ("state", "reason"),
    [
        ("NODE_FAIL", ExitReason.REBOOT),
        ("CANCELLED", ExitReason.STOPPED),
        ("PREEMPTED", ExitReason.STOPPED),
        ("TIMEOUT", ExitReason.TIMEOUT),
        ("OUT_OF_MEMORY", ExitReason.SHIM_DIED),
        ("COMPLETED", ExitReason.SHIM_DIED),
    ],
)
def test_the_end_of_a_job_whose_shim_left_no_word(state: str, reason: ExitReason) -> None:
    assert jobs.ended(job(state)) == (reason, f"its job is {state} (7 on n1)")
