"""The gate: `tsched ci` on an author's machine, and the very steps that the workflows run, with the same verdict."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest
import yaml

from tests.e2e.world import RECIPE, World, pool
from tests.integration.forge_server import GitHubServer
from tsched.validate.fix import fix

ROOT = Path(__file__).parent.parent.parent
TOOLS = RECIPE + "extensions:\n  - {type: stdio, name: x, cmd: uvx, args: [thing]}\n"


def tidy(world: World) -> None:
    """Bring every file into the form that the gate wants."""
    for path in [*world.clone.glob("pools/*.yaml"), *world.clone.glob("recipes/*.yaml")]:
        name = path.relative_to(world.clone).as_posix()
        path.write_text(fix(name, path.read_text()).text)


@pytest.fixture
def change(world: World) -> World:
    """A sound fleet on main, and a branch `change` in which a limit was raised."""
    world.fleet(dev=pool("dev", "ada", "ben"), qa=pool("qa", "cy"))
    tidy(world)
    world.push("tidy")
    world.git("checkout", "-q", "-b", "change")
    commit(world, dev=pool("dev", "ada", "ben, limit: 3"))
    return world


def commit(world: World, message: str = "change", **pools: str) -> str:
    for name, text in pools.items():
        world.file(f"pools/{name}.yaml", fix(f"pools/{name}.yaml", text).text)
    world.git("add", "-A")
    world.git("commit", "-q", "-m", message)
    return world.git("rev-parse", "HEAD")


def gate(world: World, *arguments: str, check: int) -> subprocess.CompletedProcess[str]:
    settings = {name: value for name, value in world.environ.items() if not name.startswith("TSCHED_")}
    return world.run("ci", *arguments, check=check, cwd=world.clone, only=settings)


def test_a_sound_change_may_merge(change: World) -> None:
    said = gate(change, check=0).stdout
    assert "| agent.changed | agent/ben | limit 1 → 3 |" in said
    assert "| dev | 2 | 4 |" in said
    assert said.endswith("this may merge\n")


def test_each_step_can_stop_a_merge_and_all_are_looked_at(change: World) -> None:
    change.recipes("ada", text=TOOLS)
    commit(change, dev=pool("dev", "ada", "ben"))
    refused = gate(change, "--require-review", "widening", check=1)
    assert "the form of the files, the change" in refused.stderr
    assert "recipes/ada.yaml: line 1: added the schema's line" in refused.stdout
    tidy(change)
    commit(change, "tools\n\nTsched-Reviewed: widening")
    gate(change, "--require-review", "widening", check=0)
    change.file("pools/dev.yaml", pool("dev", "ada, limt: 2", "ben"))
    change.git("commit", "-qam", "typo")
    refused = gate(change, check=1)
    assert "TS201" in refused.stdout
    assert (
        refused.stderr.splitlines()[-1] == "tsched: this may not merge: the rules, the form of the files, the change"
    )


def test_warnings_stop_it_where_they_shall(change: World) -> None:
    change.recipes("old", text=RECIPE)
    tidy(change)
    commit(change)
    gate(change, check=0)
    assert "TS310" in gate(change, "--strict", check=1).stdout


def test_the_base_is_where_the_branches_parted(change: World) -> None:
    change.git("checkout", "-q", "main")
    commit(change, "meanwhile", qa=pool("qa", "cy, limit: 9"))
    change.git("checkout", "-q", "change")
    said = gate(change, "--base", "main", check=0).stdout
    assert "agent/ben" in said
    assert "agent/cy" not in said
    assert "names no commit" in gate(change, "--base", "nope", check=1).stderr


def test_a_new_repository_has_nothing_to_compare_with(world: World) -> None:
    world.recipes("ada")
    world.file("pools/limits.yaml", "apiVersion: tsched/v1\nkind: Limits\nruntimes: {work: {argv: [x]}}\n")
    world.file("pools/dev.yaml", pool("dev", "ada"))
    tidy(world)
    world.git("checkout", "-q", "-b", "first")
    world.git("add", "-A")
    world.git("commit", "-qm", "first")
    assert "nothing to compare with" in gate(world, check=0).stdout


# the workflows' own steps


def steps(path: str, *keys: str) -> dict[str, dict[str, object]]:
    """The named steps of an action or a job."""
    found = yaml.safe_load((ROOT / path).read_text())
    for key in keys:
        found = found[key]
    return {step["name"]: step for step in found if "name" in step}


def expanded(step: Mapping[str, object], context: Mapping[str, str]) -> dict[str, str]:
    """A step's environment with its `${{ … }}` filled in; one that the context lacks is an error."""
    env = step["env"]
    assert isinstance(env, dict)
    return {key: re.sub(r"\$\{\{ *(.*?) *\}\}", lambda m: context[m[1]], str(value)) for key, value in env.items()}


def run_step(step: Mapping[str, object], context: Mapping[str, str], cwd: Path, **more: str) -> int:
    """Run a step as the forge's runner does: bash with -e and pipefail, and its environment."""
    script = str(step["run"])
    assert "${{" not in script, "an expression in a script can be made to run anything"
    environ = {"PATH": os.environ["PATH"], "HOME": str(cwd.parent), "LANG": "C.UTF-8", "GITHUB_ACTIONS": "true"}
    done = subprocess.run(
        ["bash", "--noprofile", "--norc", "-eo", "pipefail", "-c", script], cwd=cwd,
        env={**environ, **expanded(step, context), **more}, capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip
    assert "Traceback" not in done.stderr, done.stderr
    (cwd.parent / "step.log").write_text(done.stdout + done.stderr)
    return done.returncode


def installed(folder: Path) -> None:
    """What the action's first steps leave, less the download: an environment whose tsched is this one."""
    (folder / "venv/bin").mkdir(parents=True)
    program = folder / "venv/bin/tsched"
    program.write_text(f'#!/bin/sh\nexec {sys.executable} -m tsched "$@"\n')
    program.chmod(0o755)


def test_the_actions_gate_leaves_the_comment_and_the_findings(change: World) -> None:
    base, folder = change.git("rev-parse", "main"), change.root / "gate"
    installed(folder)
    context = {
        "inputs.base": base, "inputs.status": "", "inputs.require-review": "widening", "inputs.strict": "true",
        "inputs.folder": str(folder),
    }  # fmt: skip
    step = steps("action.yml", "runs", "steps")["Gate"]
    output = change.root / "output"
    more = {"GITHUB_OUTPUT": str(output), "GITHUB_STEP_SUMMARY": str(change.root / "summary.md")}
    assert run_step(step, context, change.clone, **more) == 0, (change.root / "step.log").read_text()
    asked = change.run(
        "diff", base, "HEAD", "--format", "markdown", check=0, cwd=change.clone,
        only={name: value for name, value in change.environ.items() if not name.startswith("TSCHED_")},
    ).stdout  # fmt: skip
    assert (folder / "comment.md").read_text() == (change.root / "summary.md").read_text() == asked
    assert json.loads((folder / "tsched.sarif").read_text())["runs"][0]["results"] == []
    assert output.read_text() == f"comment={folder}/comment.md\nsarif={folder}/tsched.sarif\n"
    change.file("pools/dev.yaml", pool("dev", "ada, limt: 2", "ben"))
    change.git("commit", "-qam", "typo")
    assert run_step(step, context, change.clone, **more) == 1
    assert "::error file=pools/dev.yaml,line=" in (change.root / "step.log").read_text()
    (result,) = json.loads((folder / "tsched.sarif").read_text())["runs"][0]["results"]
    assert result["ruleId"] == "TS201"


@pytest.mark.parametrize("base", ["", "0" * 40])
def test_the_action_does_without_a_base(change: World, base: str) -> None:
    folder = change.root / "gate"
    installed(folder)
    context = {
        "inputs.base": base, "inputs.status": "", "inputs.require-review": "", "inputs.strict": "false",
        "inputs.folder": str(folder),
    }  # fmt: skip
    more = {"GITHUB_OUTPUT": str(change.root / "output")}
    assert run_step(steps("action.yml", "runs", "steps")["Gate"], context, change.clone, **more) == 0


def test_the_action_installs_what_it_runs(tmp_path: Path) -> None:
    """The Install step for real: a fresh environment with the pinned packages."""
    context = {"github.action_path": str(ROOT), "inputs.folder": str(tmp_path / "gate")}
    programs = tmp_path / "bin"
    programs.mkdir()
    (programs / "python").symlink_to(sys.executable)
    step = steps("action.yml", "runs", "steps")["Install"]
    work = tmp_path / "work"
    work.mkdir()
    path = f"{programs}:{os.environ['PATH']}"
    known = (
        "PIP_",
        "SSL_",
        "HOME",
        "XDG_",
        "HTTP",
        "http",
        "NO_PROXY",
        "no_proxy",
    )  # where this machine's packages are
    passed = {name: value for name, value in os.environ.items() if name.startswith(known)}
    assert run_step(step, context, work, PATH=path, **passed) == 0, (tmp_path / "step.log").read_text()
    shown = subprocess.run(
        [tmp_path / "gate/venv/bin/tsched", "rules"], capture_output=True, text=True, check=True, cwd=work
    )
    assert "TS304" in shown.stdout


def test_the_comment_is_put_on_its_pull_request_and_replaced(change: World) -> None:
    token = "ghp_canary0123456789"
    server = GitHubServer(token)
    try:
        folder, head = change.root / "gate", change.git("rev-parse", "HEAD")
        installed(change.root)
        folder.mkdir()
        (change.root / "bin").mkdir()
        gh = change.root / "bin/gh"  # the forge's own program: it gives the number of the open pull request
        gh.write_text('#!/bin/sh\n[ "$HEAD" = "' + head + '" ] && echo 5\nexit 0\n')
        gh.chmod(0o755)
        change.git("remote", "set-url", "origin", "https://forge.example/acme/fleet.git")
        step = steps(".github/workflows/fleet-comment.yml", "jobs", "comment", "steps")["Comment"]
        lines = [line for line in str(step["run"]).splitlines() if "-m venv" not in line and "-m pip" not in line]
        context = {
            "github.token": token, "github.event.workflow_run.head_sha": head, "runner.temp": str(change.root),
        }  # fmt: skip
        more = {
            "RUNNER_TEMP": str(change.root), "GITHUB_REPOSITORY": "acme/fleet",
            "PATH": f"{change.root}/bin:{os.environ['PATH']}",
            "TSCHED_FORGE": "github", "TSCHED_FORGE_API": server.api,
        }  # fmt: skip
        for text in ("the first plan", "the second plan"):
            (folder / "comment.md").write_text(text)
            code = run_step({**step, "run": "\n".join(lines)}, context, change.clone, **more)
            assert code == 0, (change.root / "step.log").read_text()
        ((_, comments),) = server.comments.items()
        (only,) = comments
        assert str(only["body"]).startswith("<!-- tsched-plan -->")
        assert str(only["body"]).rstrip().endswith("the second plan")
    finally:
        server.close()


@pytest.mark.parametrize(
    "path", ["action.yml", *(f".github/workflows/{name}.yml" for name in ("tests", "fleet", "fleet-comment"))]
)
def test_workflows_are_pinned_by_hash_and_least_privileged(path: str) -> None:
    text = (ROOT / path).read_text()
    for used in re.findall(r"uses: (\S+)", text):
        assert used == "./" or re.fullmatch(r"[\w./-]+@[0-9a-f]{40}", used), used
    if path != "action.yml":
        assert yaml.safe_load(text)["permissions"] == {}
        assert "pull_request_target" not in text
