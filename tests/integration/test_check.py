"""Recipes read by several processes give the same findings as by one, also where a process dies."""

import os
from dataclasses import replace
from pathlib import Path

import pytest

from tsched.model.files import RepoFile, RepoFiles
from tsched.runner.check import WORTH_IT, check
from tsched.validate.fleet import load_fleet
from tsched.validate.folder import read_folder


@pytest.fixture
def files(tmp_path: Path) -> RepoFiles:
    """Many recipes, every seventh of them wrong in one of two ways, one calling another."""
    (tmp_path / "pools").mkdir()
    (tmp_path / "recipes").mkdir()
    names = [f"a{number}" for number in range(WORTH_IT + 50)]
    agents = "".join(f"  - name: {name}\n" for name in names)
    (tmp_path / "pools/dev.yaml").write_text(f"apiVersion: tsched/v1\nkind: Pool\nname: dev\nagents:\n{agents}")
    for number, name in enumerate(names):
        wrong = "promt: x\n" if number % 14 == 0 else "\tbad\n" if number % 7 == 0 else ""
        (tmp_path / f"recipes/{name}.yaml").write_text(f"title: T\ndescription: D\nprompt: P\n{wrong}")
    with (tmp_path / "recipes/a1.yaml").open("a") as recipe:
        recipe.write("sub_recipes: [{name: x, path: lost.yaml}]\n")
    return read_folder(tmp_path)


def test_many_processes_find_what_one_finds(files: RepoFiles, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = load_fleet(files, build=False)
    assert {one.code for one in expected.diagnostics} == {"TS201", "TS106", "TS405"}
    for cores in ({0}, {0, 1}, {0, 1, 2, 3, 4}):
        monkeypatch.setattr(os, "sched_getaffinity", lambda pid, cores=cores: cores)
        assert check(files, build=False).diagnostics == expected.diagnostics
    assert check(files, build=True).agents == expected.agents


def test_a_process_that_dies_loses_nothing(files: RepoFiles, monkeypatch: pytest.MonkeyPatch) -> None:
    parent = os.getpid()

    def read(file: RepoFile) -> bytes:
        if os.getpid() != parent:
            os._exit(9)
        if file.path.startswith("pools/"):  # so read before any recipe is taken here
            os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOWAIT)
        return files.read(file)

    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {0, 1, 2})
    assert check(replace(files, read=read), build=False).diagnostics == load_fleet(files, build=False).diagnostics
