"""What a reader may paste is true: each marked block of the documents is run, top to bottom, in an empty folder."""

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import jsonschema
import pytest

from tests.e2e import reference
from tests.integration.github_server import IssuesServer

ROOT = Path(__file__).parent.parent.parent
DOCUMENTS = (
    "README.md", "docs/fleet.md", "docs/gate.md", "docs/github.md", "docs/many.md", "docs/operations.md",
    "docs/scaling.md", "docs/serve.md", "docs/tasks.md",
)  # fmt: skip
BLOCK = re.compile(r"<!-- run -->\n```sh\n(.*?)```", re.DOTALL)


def environment(home: Path) -> dict[str, str]:
    """A reader's shell: our tsched first on PATH, no git identity, no setting."""
    home.mkdir()
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    return {"PATH": path, "HOME": str(home), "LANG": "C.UTF-8"}


@pytest.mark.parametrize("name", DOCUMENTS)
def test_every_block_that_may_be_pasted_works(name: str, tmp_path: Path) -> None:
    blocks = BLOCK.findall((ROOT / name).read_text(encoding="utf-8"))
    assert blocks, f"{name} has no block to run"
    if any("curl " in block for block in blocks) and shutil.which("curl") is None:
        pytest.skip(f"{name} uses curl, which is not installed (apt-get install curl)")
    folder = tmp_path / "reader"
    folder.mkdir()
    with closing(IssuesServer("ghp_s3cret")) as github:
        issue = github.add("queue:dev", title="hello, issue")
        script = "set -eu\n" + "\n".join(blocks)
        script = script.replace("github://OWNER/REPOSITORY", github.address).replace("YOUR_TOKEN", github.token)
        done = subprocess.run(
            ["bash", "-c", script], cwd=folder, env=environment(tmp_path / "home"), capture_output=True, text=True,
            timeout=120, check=False,
        )  # fmt: skip
    if "github://" in "".join(blocks):
        assert issue.comments, "the issue was taken"
    assert done.returncode == 0, done.stdout + done.stderr
    if name == "README.md":
        assert "HELLO, FLEET" in done.stdout
        assert "limit 2 → 5" in done.stdout
        assert "0/2" in done.stdout.rpartition("Agents")[2]


@pytest.mark.parametrize("name", reference.PAGES)
def test_a_reference_page_is_what_the_program_has(name: str) -> None:
    assert (reference.FOLDER / name).read_text(encoding="utf-8") == reference.PAGES[name](), "stale: run `make docs`"


def undescribed(schema: object, path: str = "") -> Iterator[str]:
    """Keys without a description, and values of free form without an example."""
    if isinstance(schema, dict):
        for key, one in schema.get("properties", {}).items():
            if "description" not in one:
                yield f"{path}/{key}: description"
            if one.get("type") in ("string", "integer", "number") and not one.keys() & {"examples", "enum", "const"}:
                yield f"{path}/{key}: examples"
        for key, inner in schema.items():
            if key != "examples":
                yield from undescribed(inner, f"{path}/{key}")
    elif isinstance(schema, list):
        for index, inner in enumerate(schema):
            yield from undescribed(inner, f"{path}/{index}")


@pytest.mark.parametrize("name", ["pool", "limits", "recipe"])
def test_every_key_of_the_format_is_described_with_an_example(name: str) -> None:
    schema = json.loads((ROOT / f"schemas/{name}.schema.json").read_text(encoding="utf-8"))
    assert list(undescribed(schema)) == []


@pytest.mark.parametrize("name", ["pool", "limits", "recipe"])
def test_every_example_of_a_schema_fits_its_place(name: str) -> None:
    schema = json.loads((ROOT / f"schemas/{name}.schema.json").read_text(encoding="utf-8"))

    def look(node: object) -> None:
        if isinstance(node, dict):
            for example in node.get("examples", ()) if isinstance(node.get("examples"), list) else ():
                jsonschema.Draft202012Validator({"$defs": schema.get("$defs", {}), **node}).validate(example)
            for key, inner in node.items():
                if key != "examples":
                    look(inner)
        elif isinstance(node, list):
            for inner in node:
                look(inner)

    look(schema)


@pytest.mark.parametrize(
    "name",
    [
        "README.md",
        "ARCHITECTURE.md",
        "CONTRIBUTING.md",
        *DOCUMENTS[1:],
        "docs/agents.md",
        "docs/metrics.md",
        "docs/reference/fleet.md",
    ],
)
def test_every_link_to_a_file_leads_somewhere(name: str) -> None:
    text = re.sub(r"`[^`\n]*`", "", (ROOT / name).read_text(encoding="utf-8"))  # a pattern is no link
    for target in re.findall(r"\]\((?!https?:)([^)#]+)\)", text):
        assert ((ROOT / name).parent / target).exists(), f"{name} points at {target}"


def test_every_module_that_the_architecture_names_is_there() -> None:
    text = (ROOT / "ARCHITECTURE.md").read_text(encoding="utf-8")
    for module in re.findall(r"\b([a-z]+/[a-z_]+\.py)\b", text):
        assert (ROOT / "tsched" / module).exists(), module
    for module in re.findall(r"\b((?:revise|adopt|finish|retire|launch|report|cycle)\.py)\b", text):
        assert (ROOT / "tsched/runner" / module).exists(), module
    for package in re.findall(r"^\| `(\w+)/` \|", text, re.MULTILINE):
        assert (ROOT / "tsched" / package).is_dir(), package
