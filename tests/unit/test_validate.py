"""What a fleet repo may say, and what each mistake is called and where it stands."""

from collections.abc import Mapping

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from tsched.model.files import FileKind, RepoFile, RepoFiles
from tsched.model.fleet import DrainPolicy, Guard, Keep, OnDeadline, Retry, Suspend
from tsched.validate.codes import CODES
from tsched.validate.fleet import FleetCache, Loaded, load_fleet
from tsched.validate.report import render_text
from tsched.validate.source import parse

RECIPE = """\
title: T
description: D
prompt: Do {{ task_title }}
parameters:
  - {key: task_title, input_type: string, requirement: required, description: what}
"""
POOL = "apiVersion: tsched/v1\nkind: Pool\nname: dev\n"
LIMITS = "apiVersion: tsched/v1\nkind: Limits\n"
ADA = "agents:\n  - name: ada\n"


def load(files: Mapping[str, str | bytes | RepoFile], cache: FleetCache | None = None) -> Loaded:
    """Load a fleet from texts by path."""
    data = {path: text.encode() if isinstance(text, str) else text for path, text in files.items()}
    entries = {
        path: one if isinstance(one, RepoFile) else RepoFile(path=path, blob=str(hash(one)), size=len(one))
        for path, one in data.items()
    }

    def read(file: RepoFile) -> bytes:
        found = data[file.path]
        assert isinstance(found, bytes), f"{file.path} may not be read"
        return found

    return load_fleet(RepoFiles(revision="r", entries=entries, read=read), cache)


def fleet(pool: str = POOL + ADA, limits: str | None = None, **recipes: str) -> Mapping[str, str]:
    files = {"pools/dev.yaml": pool, "recipes/ada.yaml": RECIPE}
    files |= {} if limits is None else {"pools/limits.yaml": limits}
    return files | {f"recipes/{name}.yaml": text for name, text in recipes.items()}


def codes(loaded: Loaded) -> list[str]:
    return [f"{one.path}:{one.line}:{one.column} {one.code}" for one in loaded.diagnostics]


def test_defaults_are_resolved_in_order() -> None:
    pool = POOL + (
        "runtime: codex\ndefaults: {limit: 2, max_runtime: 5m}\n"
        "agents:\n  - {name: cy, recipe: ada.yaml}\n"
        "  - {name: ada, limit: 0, runtime: claude, priority_floor: 3, max_runtime: 90s}\n"
    )
    loaded = load(fleet(pool, LIMITS + "max_runtime: 2h\n"))
    assert loaded.fleet is not None, codes(loaded)
    ada, cy = loaded.fleet.pools[0].agents
    assert (ada.name, ada.limit, ada.runtime, ada.priority_floor, ada.max_runtime) == ("ada", 0, "claude", 3, 90.0)
    assert (cy.limit, cy.runtime, cy.priority_floor, cy.max_runtime) == (2, "codex", 0, 300.0)


def test_resources_are_resolved_key_by_key() -> None:
    pool = POOL + (
        "defaults: {resources: {memory: 2Gi, processes: 64}}\n"
        "agents:\n  - {name: ada, resources: {memory: 512Mi, file_size: 10Gi}}\n  - {name: ben}\n"
    )
    loaded = load(fleet(pool, LIMITS + "resources: {cpus: 1.5, memory: 8Gi, open_files: 4096}\n", ben=RECIPE))
    assert loaded.fleet is not None
    ada, ben = (loaded.fleet.find(name) for name in ("ada", "ben"))
    assert ada is not None
    assert ben is not None
    assert str(ada[1].resources) == "cpus=1.5 memory=512Mi processes=64 open_files=4096 file_size=10Gi"
    assert str(ben[1].resources) == "cpus=1.5 memory=2Gi processes=64 open_files=4096"


@pytest.mark.parametrize(
    ("written", "message", "mend"),
    [
        ("memroy: 4Gi", "The key 'memroy' is not known in agents[0].resources.", "Did you mean 'memory'?"),
        ("memory: 4GB", 'agents[0].resources.memory is "4GB", which has the wrong form.', "a whole number and Ki"),
        ("memory: 4096", "agents[0].resources.memory is 4096, where a size is wanted.", "such as 512Mi"),
        ("cpus: 0", "agents[0].resources.cpus is 0, below 0.01.", "Use 0.01 or more."),
        ("processes: 0", "agents[0].resources.processes is 0, below 1.", "Use 1 or more."),
    ],
)
def test_a_resource_that_is_none_is_told_how_it_is_written(written: str, message: str, mend: str) -> None:
    (found,) = load(fleet(POOL + f"agents: [{{name: ada, resources: {{{written}}}}}]\n")).diagnostics
    assert found.message == message
    assert mend in found.mend


def test_where_runs_execute_is_resolved_key_by_key() -> None:
    pool = POOL + (
        "defaults: {executor: slurm, slurm: {partition: agents, time: 2h}}\n"
        "agents:\n  - {name: ada, slurm: {partition: big}}\n  - {name: ben, executor: local}\n"
    )
    loaded = load(fleet(pool, LIMITS + "slurm: {account: research, partition: main}\n", ben=RECIPE))
    assert loaded.fleet is not None
    ada, ben = (loaded.fleet.find(name) for name in ("ada", "ben"))
    assert ada is not None
    assert ben is not None
    assert (ada[1].executor, str(ada[1].slurm)) == ("slurm", "partition=big account=research time=2h")
    assert (ben[1].executor, str(ben[1].slurm)) == ("local", "partition=agents account=research time=2h")


@pytest.mark.parametrize(
    ("written", "message", "mend"),
    [
        ("executor: slrum", 'agents[0].executor is "slrum"', "slurm"),
        ("slurm: {partiton: a}", "The key 'partiton' is not known in agents[0].slurm.", "Did you mean 'partition'?"),
        ("slurm: {partition: '-a b'}", 'agents[0].slurm.partition is "-a b", which has the wrong form.', ""),
        ("slurm: {time: 90}", "agents[0].slurm.time is 90, where a duration is wanted.", "such as 90s"),
    ],
)
def test_a_place_that_is_none_is_told_how_it_is_written(written: str, message: str, mend: str) -> None:
    (found,) = load(fleet(POOL + f"agents: [{{name: ada, {written}}}]\n")).diagnostics
    assert message in found.message
    assert mend in found.mend


def test_a_time_limit_of_slurm_that_ends_runs_early_is_an_error() -> None:
    pool = POOL + "agents: [{name: ada, executor: slurm, slurm: {time: 30m}}]\n"
    (found,) = load(fleet(pool)).diagnostics
    assert (found.code, found.line) == ("TS321", len(POOL.splitlines()) + 1)
    assert (
        found.message == "Slurm would end runs of ada after 30m, before max_runtime and stop_grace, 3630s, are over."
    )
    assert found.mend == "Set slurm.time to 61m or more, leave it out, or lower max_runtime."
    assert not load(fleet(pool.replace("30m", "61m"))).diagnostics
    assert not load(fleet(pool.replace("executor: slurm", "max_runtime: 29m"))).diagnostics


@pytest.mark.parametrize(
    ("more", "wish", "column"),
    [
        ("workspace: {repo: x}\nagents: [{name: ada}]\n", "which can't have the pool's workspace", 17),
        ("workspace: {repo: x}\nagents: [{name: ada, slurm: {shared: false}}]\n", "the pool's workspace", 38),
        ("agents: [{name: ada, runtime: claude, session: continue}]\n", "where no conversation goes on", 48),
    ],
)
def test_what_is_not_without_a_shared_folder_is_an_error_and_with_one_none(more: str, wish: str, column: int) -> None:
    pool = POOL + "defaults: {executor: slurm, slurm: {shared: false}}\n" + more
    (found,) = load(fleet(pool)).diagnostics
    assert (found.code, found.column, wish in found.message) == ("TS323", column, True)
    assert not load(fleet(pool.replace("shared: false", "shared: true"))).diagnostics
    assert load(fleet(POOL + "defaults: {executor: slurm}\n" + more, LIMITS + "slurm: {shared: false}\n")).diagnostics


def test_checks_of_a_recipe_are_made_in_no_pod() -> None:
    pool = POOL + "agents: [{name: ada, recipe: ada.yaml, executor: kubernetes, kubernetes: {image: a}}]\n"
    checked = RECIPE + "retry: {max_retries: 1, checks: [{type: shell, command: make}]}\n"
    (found,) = load(fleet(pool, ada=checked)).diagnostics
    assert (found.code, found.column) == ("TS322", 30)
    assert "where nobody makes the checks of recipes/ada.yaml" in found.message
    assert not load(fleet(pool)).diagnostics
    assert not load(fleet(pool.replace("executor: kubernetes", "executor: local"), ada=checked)).diagnostics


def test_what_kubernetes_is_asked_for_is_resolved_key_by_key() -> None:
    pool = POOL + (
        "defaults:\n  executor: kubernetes\n"
        "  kubernetes: {image: a, env: {KEY: {name: s, key: k}}, node_selector: {disk: ssd}}\n"
        "agents:\n  - {name: ada, kubernetes: {image: b, env: {TOKEN: {name: t, key: u}}, start_within: 90s}}\n"
    )
    loaded = load(fleet(pool, LIMITS + "kubernetes: {namespace: agents, image: c, ttl: 2d, secrets: [x, y]}\n"))
    assert loaded.fleet is not None
    ada = loaded.fleet.find("ada")
    assert ada is not None
    assert str(ada[1].kubernetes) == (
        "image=b namespace=agents node_selector=disk:ssd secrets=x,y env=TOKEN:t/u start_within=90s ttl=2d"
    )


@pytest.mark.parametrize(
    ("more", "wish"),
    [
        ("workspace: {repo: x}\nagents: [{name: ada}]\n", "which can't have the pool's workspace"),
        ("agents: [{name: ada, runtime: claude, session: continue}]\n", "where no conversation goes on"),
        ("agents: [{name: ada, resources: {open_files: 99}}]\n", "where resources.open_files holds nothing"),
        ("agents: [{name: ada, stall: 5m}]\n", "where nobody looks for progress"),
    ],
)
def test_what_a_pod_has_not_got_is_an_error_and_for_others_none(more: str, wish: str) -> None:
    pool = POOL + "defaults: {executor: kubernetes, kubernetes: {image: a}}\n" + more
    (found,) = load(fleet(pool)).diagnostics
    assert (found.code, wish in found.message) == ("TS322", True)
    assert not load(fleet(pool.replace("executor: kubernetes", "executor: local"))).diagnostics


def test_what_is_built_in() -> None:
    loaded = load(fleet())
    assert loaded.fleet is not None
    (pool,) = loaded.fleet.pools
    (ada,) = pool.agents
    assert (pool.queue, pool.drain, pool.suspend, pool.workspace) == ("dev", DrainPolicy(), None, None)
    assert (ada.limit, ada.runtime, ada.recipe, ada.max_runtime) == (1, "goose", "recipes/ada.yaml", 3600.0)
    limits = loaded.fleet.limits
    assert (limits.retry, limits.guard, limits.loop_interval) == (Retry(), Guard(percent=50), 60.0)


def test_every_setting_is_read() -> None:
    pool = POOL + (
        "queue: work\nlabels: {zone: eu, tier: gpu}\nmax_running: 0\n"
        "suspend: {until: '2026-12-01T00:00:00Z', reason: holiday}\n"
        "drain: {deadline: 2h, on_deadline: fail}\nworkspace: {repo: ../x, ref: main, keep: always}\n" + ADA
    )
    limits = LIMITS + (
        "max_running: 3\nspawn_per_cycle: 2\nloop_interval: 250ms\nheartbeat: 5s\nstop_grace: 1s\n"
        "retry: {attempts: 5, backoff: 1s, max_backoff: 1m}\nguard: {max_agents_removed: 2}\n"
        "runtimes:\n  tests: {argv: [make, '{workspace}'], env: [CI], evidence: exit}\n"
    )
    loaded = load(fleet(pool, limits))
    assert loaded.fleet is not None, codes(loaded)
    (one,) = loaded.fleet.pools
    assert one.suspend == Suspend(until=1796083200.0, reason="holiday")
    assert (one.queue, one.max_running) == ("work", 0)
    assert one.labels == {"zone": "eu", "tier": "gpu"}
    assert one.drain == DrainPolicy(deadline=7200.0, on_deadline=OnDeadline.FAIL)
    assert one.workspace is not None
    assert (one.workspace.repo, one.workspace.ref, one.workspace.keep) == ("../x", "main", Keep.ALWAYS)
    known = loaded.fleet.limits
    assert (known.max_running, known.spawn_per_cycle, known.loop_interval, known.guard) == (
        3,
        2,
        0.25,
        Guard(percent=None, agents=2),
    )
    assert known.runtimes["tests"].argv == ("make", "{workspace}")


BAD: Mapping[str, tuple[Mapping[str, str | bytes | RepoFile], list[str]]] = {
    "tab": ({**fleet(), "pools/dev.yaml": "agents:\n\t- name: a\n"}, ["pools/dev.yaml:2:1 TS106"]),
    "broken": ({**fleet(), "pools/dev.yaml": POOL + "agents: [\n"}, ["pools/dev.yaml:5:1 TS101"]),
    "twice": (fleet(POOL + "name: dev\n"), ["pools/dev.yaml:4:1 TS102"]),
    "alias": (fleet(POOL + "agents: &a []\n"), ["pools/dev.yaml:4:9 TS103"]),
    "bomb": (
        fleet("a: &a [x, x]\nb: &b [*a, *a]\nc: &c [*b, *b]\n"),
        ["pools/dev.yaml:1:4 TS103"],
    ),
    "merge": (fleet(POOL + "<<: {queue: x}\n"), ["pools/dev.yaml:4:1 TS103"]),
    "tag": (fleet(POOL + "queue: !!python/name:os.system x\n"), ["pools/dev.yaml:4:8 TS103"]),
    "latin": ({**fleet(), "pools/dev.yaml": POOL.encode() + b"queue: caf\xe9\n"}, ["pools/dev.yaml:4:11 TS104"]),
    "huge": (
        {**fleet(), "pools/x.yaml": RepoFile(path="pools/x.yaml", blob="h", size=50 << 20)},
        ["pools/x.yaml:1:1 TS105", "recipes/ada.yaml:1:1 TS310"][:1],
    ),
    "deep": (fleet("a: " + "[" * 60 + "]" * 60), ["pools/dev.yaml:1:43 TS105"]),
    "conflict": (fleet(POOL + "<<<<<<< HEAD\n"), ["pools/dev.yaml:4:1 TS107"]),
    "documents": (fleet(POOL + "---\nx: 1\n"), ["pools/dev.yaml:4:1 TS108"]),
    "empty": (fleet("# nothing\n"), ["pools/dev.yaml:1:1 TS109"]),
    "null": (fleet(POOL + "queue:\n" + ADA), ["pools/dev.yaml:4:7 TS109"]),
    "unknown key": (fleet(POOL + "agents:\n  - {name: ada, limt: 2}\n"), ["pools/dev.yaml:5:17 TS201"]),
    "no name": (fleet(POOL + "agents:\n  - {limit: 2}\n"), ["pools/dev.yaml:5:5 TS202"]),
    "a word for a number": (fleet(POOL + "agents:\n  - {name: ada, limit: yes}\n"), ["pools/dev.yaml:5:24 TS203"]),
    "negative": (fleet(POOL + "max_running: -1\n" + ADA), ["pools/dev.yaml:4:14 TS204"]),
    "bare seconds": (fleet(POOL + "drain: {deadline: 90}\n" + ADA), ["pools/dev.yaml:4:19 TS203"]),
    "label that is a number": (fleet(POOL + "labels: {zone: 2}\n" + ADA), ["pools/dev.yaml:4:16 TS203"]),
    "label with a capital": (fleet(POOL + "labels: {Zone: eu}\n" + ADA), ["pools/dev.yaml:4:10 TS204"]),
    "label with a space": (fleet(POOL + "labels: {zone: a b}\n" + ADA), ["pools/dev.yaml:4:16 TS204"]),
    "too many labels": (
        fleet(POOL + f"labels: {{{', '.join(f'k{n}: v' for n in range(33))}}}\n" + ADA),
        ["pools/dev.yaml:4:9 TS204"],
    ),
    "bad duration": (fleet(POOL + "drain: {deadline: 1 hour}\n" + ADA), ["pools/dev.yaml:4:19 TS204"]),
    "capital name": (fleet(POOL + "agents:\n  - name: Ada\n"), ["pools/dev.yaml:5:11 TS204"]),
    "reserved": (fleet(POOL + "agents:\n  - {name: parked, recipe: ada.yaml}\n"), ["pools/dev.yaml:5:12 TS204"]),
    "13th month": (
        fleet(POOL + "suspend: {until: '2026-13-01T00:00:00Z'}\n" + ADA),
        ["pools/dev.yaml:4:18 TS204"],
    ),
    "101 percent": (fleet(limits=LIMITS + "guard: {max_agents_removed: 101%}\n"), ["pools/limits.yaml:3:29 TS204"]),
    "empty argv": (fleet(limits=LIMITS + "runtimes: {x: {argv: []}}\n"), ["pools/limits.yaml:3:22 TS204"]),
    "same agent": (
        {**fleet(), "pools/qa.yaml": POOL.replace("dev", "qa") + ADA},
        ["pools/qa.yaml:5:11 TS301"],
    ),
    "same queue": (
        {**fleet(), "pools/qa.yaml": POOL.replace("dev", "qa") + "queue: dev\n"},
        ["pools/qa.yaml:3:7 TS316", "pools/qa.yaml:4:8 TS302"],
    ),
    "same pool": (
        {**fleet(), "pools/qa.yaml": POOL + "queue: other\n"},
        ["pools/qa.yaml:3:7 TS303", "pools/qa.yaml:3:7 TS316"],
    ),
    "no recipe": (
        fleet(POOL + "agents:\n  - name: adda\n"),
        ["pools/dev.yaml:5:11 TS304", "recipes/ada.yaml:1:1 TS310"],
    ),
    "unknown runtime": (fleet(POOL + "agents:\n  - {name: ada, runtime: gose}\n"), ["pools/dev.yaml:5:26 TS305"]),
    "yml": ({**fleet(), "pools/qa.yml": POOL}, ["pools/qa.yml:1:1 TS306"]),
    "stray": ({**fleet(), "pools/notes.txt": "x"}, ["pools/notes.txt:1:1 TS306"]),
    "nested": ({**fleet(), "pools/a/b.yaml": POOL}, ["pools/a/b.yaml:1:1 TS306"]),
    "recipe yml": ({**fleet(), "recipes/x.yml": RECIPE}, ["recipes/x.yml:1:1 TS306"]),
    "link": (
        {**fleet(), "pools/x.yaml": RepoFile(path="pools/x.yaml", blob="l", kind=FileKind.SYMLINK)},
        ["pools/x.yaml:1:1 TS307"],
    ),
    "submodule": (
        {**fleet(), "recipes/x.yaml": RepoFile(path="recipes/x.yaml", blob="s", kind=FileKind.SUBMODULE)},
        ["recipes/x.yaml:1:1 TS307"],
    ),
    "nothing": ({}, ["pools:1:1 TS308"]),
    "case": (
        {**fleet(), "pools/Dev.yaml": POOL.replace("dev", "qa")},
        ["pools/Dev.yaml:1:1 TS309", "pools/Dev.yaml:3:7 TS316"],
    ),
    "two alert rules of one name": (
        fleet(limits=LIMITS + "alerts: {rules: [{type: drain, name: a}, {type: remote, name: a}]}\n"),
        ["pools/limits.yaml:3:63 TS318"],
    ),
    "webhook to nowhere": (
        fleet(limits=LIMITS + "alerts: {notify: [{type: webhook}]}\n"),
        ["pools/limits.yaml:3:19 TS320"],
    ),
    "limits elsewhere": ({**fleet(), "pools/x.yaml": LIMITS}, ["pools/x.yaml:2:7 TS312"]),
    "pool in limits": (fleet(limits=POOL), ["pools/limits.yaml:2:7 TS312"]),
    "outside": (
        fleet(POOL + "agents:\n  - {name: ada, recipe: ../ada.yaml}\n"),
        ["pools/dev.yaml:5:25 TS313", "recipes/ada.yaml:1:1 TS310"],
    ),
    "credential": (
        fleet(limits=LIMITS + "runtimes: {x: {argv: [curl, ghp_0123456789abcdef0123456789abcdef0123]}}\n"),
        ["pools/limits.yaml:3:29 TS314"],
    ),
    "password": (
        fleet(ada=RECIPE + "extensions:\n  - {type: stdio, name: x, cmd: y, args: [], envs: {API_KEY: hunter2}}\n"),
        ["recipes/ada.yaml:7:62 TS314"],
    ),
    "undeclared": (fleet(ada=RECIPE + "instructions: '{{ nope }}'\n"), ["recipes/ada.yaml:6:15 TS401"]),
    "useless": (
        fleet(ada=RECIPE + "  - {key: queue, input_type: string, requirement: required, description: d}\n"),
        ["recipes/ada.yaml:6:11 TS402"],
    ),
    "never supplied": (
        fleet(
            ada=RECIPE.replace("task_title }}", "task_title }} {{ x }}")
            + "  - {key: x, input_type: string, requirement: required, description: d}\n"
        ),
        ["recipes/ada.yaml:6:11 TS403"],
    ),
    "no default": (
        fleet(
            ada=RECIPE.replace("task_title }}", "task_title }} {{ x }}")
            + "  - {key: x, input_type: string, requirement: optional, description: d}\n"
        ),
        ["recipes/ada.yaml:6:11 TS404"],
    ),
    "lost sub-recipe": (
        fleet(ada=RECIPE + "sub_recipes: [{name: s, path: sub/s.yaml}]\n"),
        ["recipes/ada.yaml:6:31 TS405"],
    ),
    "sub-recipe outside": (
        fleet(ada=RECIPE + "sub_recipes: [{name: s, path: ../../etc/passwd}]\n"),
        ["recipes/ada.yaml:6:31 TS313"],
    ),
    "open braces": (fleet(ada=RECIPE + "instructions: '{{ task_title'\n"), ["recipes/ada.yaml:6:15 TS406"]),
    "no prompt": (
        fleet(ada="title: T\ndescription: D\ninstructions: I\n"),
        ["recipes/ada.yaml:1:1 TS407"],
    ),
    "file with default": (
        fleet(
            ada=RECIPE.replace("task_title }}", "task_title }} {{ x }}")
            + "  - {key: x, input_type: file, requirement: optional, default: a, description: d}\n"
        ),
        ["recipes/ada.yaml:6:11 TS408"],
    ),
    "recipe typo": (fleet(ada=RECIPE + "promt: x\n"), ["recipes/ada.yaml:6:1 TS201"]),
    "endless": (
        fleet(POOL + "agents:\n" + "  - {limit: 1}\n" * 1001),
        ["pools/dev.yaml:1:1 TS205", *(f"pools/dev.yaml:{line}:5 TS202" for line in range(5, 1005))],
    ),
    "reaches too far": (
        {
            **fleet(ada=RECIPE + "sub_recipes: [{name: s, path: r0.yaml}]\n"),
            **{
                f"recipes/r{n}.yaml": RECIPE + f"sub_recipes: [{{name: s, path: r{n + 1}.yaml}}]\n"
                for n in range(100)
            },
            "recipes/r100.yaml": RECIPE,
        },
        ["recipes/ada.yaml:6:31 TS409"],
    ),
    "sse": (
        fleet(ada=RECIPE + "extensions: [{type: sse, name: x, uri: y}]\n"),
        ["recipes/ada.yaml:6:21 TS204"],
    ),
    "twice in a recipe": (
        fleet(ada=RECIPE + "sub_recipes: [{name: s, path: s.yaml}, {name: s, path: s.yaml}]\n", s=RECIPE),
        ["recipes/ada.yaml:6:47 TS411"],
    ),
    "too little of Slurm's time": (
        fleet(POOL + "agents: [{name: ada, executor: slurm, slurm: {time: 30m}}]\n"),
        ["pools/dev.yaml:4:53 TS321"],
    ),
    "a workspace without a shared folder": (
        fleet(
            POOL + "workspace: {repo: x}\nagents: [{name: ada, executor: slurm, slurm: {time: 2h, shared: false}}]\n"
        ),
        ["pools/dev.yaml:5:65 TS323"],
    ),
    "no image": (
        fleet(POOL + "agents: [{name: ada, executor: kubernetes}]\n"),
        ["pools/dev.yaml:4:17 TS322"],
    ),
    "no schema": (
        fleet(ada=RECIPE + "response: {json_schema: {type: strng}}\n"),
        ["recipes/ada.yaml:6:32 TS412"],
    ),
}


@pytest.mark.parametrize("name", BAD)
def test_each_mistake_has_its_code_and_place(name: str) -> None:
    files, expected = BAD[name]
    loaded = load(files)
    assert codes(loaded) == expected, render_text(loaded.diagnostics, {})
    assert loaded.fleet is None
    for one in loaded.diagnostics:
        assert one.message.endswith(".")
        assert one.mend.endswith((".", "?"))


def test_every_code_of_a_repo_has_a_bad_example_here() -> None:
    seen = {entry.rpartition(" ")[2] for _, expected in BAD.values() for entry in expected}
    warnings = {"TS311", "TS315", "TS316", "TS317", "TS319", "TS410"}
    assert seen | warnings >= {code for code in CODES if not code.startswith("TS5")}


def test_near_misses_are_answered() -> None:
    def mends(files: Mapping[str, str]) -> str:
        return " ".join(one.mend for one in load(files).diagnostics)

    assert "Did you mean 'limit'?" in mends(fleet(POOL + "agents:\n  - {name: ada, limt: 2}\n"))
    assert "Did you mean 'goose'?" in mends(fleet(POOL + "agents:\n  - {name: ada, runtime: gose}\n"))
    assert "Did you mean 'ada.yaml'?" in mends(fleet(POOL + "agents:\n  - name: adda\n"))


def test_a_bare_number_of_seconds_is_told_its_unit() -> None:
    (finding,) = load(fleet(limits=LIMITS + "heartbeat: 15\n")).diagnostics
    assert finding.message == "heartbeat is 15, where a duration is wanted."
    assert finding.mend == "Write a whole number with ms, s, m, h or d, such as 15s."


def test_a_suffix_that_all_have_makes_no_names_near() -> None:
    (finding, _) = load(fleet(POOL + "agents:\n  - name: cy\n")).diagnostics
    assert finding.mend == "Add the file."


def test_all_mistakes_are_found_in_one_pass() -> None:
    files = {
        **fleet(POOL + "agnts: []\n"),
        "pools/x.yml": "",
        "pools/qa.yaml": "a: [",
        "recipes/b.yaml": "title: x\n",
    }
    found = {one.code for one in load(files).diagnostics}
    assert found >= {"TS201", "TS306", "TS101", "TS202"}


def test_warnings_do_not_reject() -> None:
    pool = POOL + "max_running: 1\ndrain: {deadline: 1m, on_deadline: wait}\nagents:\n  - {name: ada, limit: 2}\n"
    loaded = load({**fleet(pool, b=RECIPE), "pools/qa.yaml": POOL.replace("dev", "qa")})
    assert loaded.fleet is not None
    assert [one.code for one in loaded.diagnostics] == ["TS315", "TS311", "TS316", "TS310"]


@pytest.mark.parametrize(
    ("pool", "limits", "place"),
    [
        (POOL + "max_running: 0\n" + ADA, None, "4:14"),
        (POOL + ADA, "max_running: 0\n", "3:7"),
        (POOL, None, "3:7"),
        (POOL + "defaults: {limit: 0}\n" + ADA, None, "3:7"),
    ],
)
def test_a_pool_that_can_never_run_anything(pool: str, limits: str | None, place: str) -> None:
    loaded = load({**fleet(pool, limits and LIMITS + limits)})
    assert [(one.code, f"{one.line}:{one.column}") for one in loaded.diagnostics if one.code == "TS316"] == [
        ("TS316", place)
    ]
    suspended = load({**fleet(pool + "suspend: true\n", limits and LIMITS + limits)})
    assert "TS316" not in [one.code for one in suspended.diagnostics]


def test_waiting_longer_than_a_run_may_take_is_no_finding() -> None:
    waiting = POOL + "defaults: {max_runtime: 2h}\ndrain: {deadline: %s, on_deadline: wait}\n" + ADA
    assert [one.code for one in load(fleet(waiting % "119m")).diagnostics] == ["TS315"]
    assert load(fleet(waiting % "2h")).diagnostics == ()


def test_an_emptied_pools_folder_is_a_fleet_without_agents() -> None:
    loaded = load({"recipes/ada.yaml": RECIPE})
    assert loaded.fleet is not None
    assert loaded.fleet.pools == ()


def test_sub_recipes_are_pinned_with_their_recipe_and_a_circle_ends() -> None:
    sub = RECIPE + "sub_recipes: [{name: a, path: ../ada.yaml}]\n"
    files = {**fleet(ada=RECIPE + "sub_recipes: [{name: s, path: sub/s.yaml}]\n"), "recipes/sub/s.yaml": sub}
    loaded = load(files)
    assert loaded.fleet is not None, codes(loaded)
    assert [file.path for file in loaded.fleet.recipes["recipes/ada.yaml"].files] == [
        "recipes/ada.yaml",
        "recipes/sub/s.yaml",
    ]


def test_a_recipe_may_be_nested_and_may_be_json() -> None:
    nested = "recipe:\n" + "".join(f"  {line}\n" for line in RECIPE.splitlines())
    assert load(fleet(ada=nested)).fleet is not None
    pool = POOL + "agents:\n  - {name: ada, recipe: j.json}\n"
    as_json = '{"title": "T", "description": "D", "prompt": "go"}'
    assert load({"pools/dev.yaml": pool, "recipes/j.json": as_json}).fleet is not None


SCALARS = {
    "yes": "yes", "no": "no", "on": "on", "1:30": "1:30", "2026-01-20": "2026-01-20", "0o17": 15, "0x1F": 31,
    "0b1": "0b1", "017": 17, "1e3": 1000.0, ".5": 0.5, "-7": -7, "true": True, "False": False, "~": None,
    "null": None, "=": "=", "1_000": "1_000", "+1": 1, ".inf": float("inf"), "'1'": "1", "Null": None,
}  # fmt: skip


@pytest.mark.parametrize("text", SCALARS)
def test_scalars_are_read_as_yaml_1_2(text: str) -> None:
    source = parse("x.yaml", f"a: {text}\n".encode())
    assert source.value == {"a": SCALARS[text]}


def test_an_unchanged_file_is_not_read_again() -> None:
    cache = FleetCache()
    files = fleet()
    first = load(files, cache)
    kept = {path: RepoFile(path=path, blob=str(hash(text.encode())), size=len(text)) for path, text in files.items()}
    again = load(kept, cache)  # nothing there can be read
    assert again.fleet == first.fleet
    load({"pools/dev.yaml": POOL}, cache)
    assert (len(cache.pools), len(cache.recipes)) == (1, 0)


def test_text_shows_the_line_and_a_caret() -> None:
    files = fleet(POOL + "agents:\n  - {name: ada, limt: 2}\n")
    head, line, caret = render_text(load(files).diagnostics, files).splitlines()
    assert head.startswith("pools/dev.yaml:5:17: TS201 error:")
    assert line[caret.index("^") :].startswith("limt")


@pytest.mark.parametrize("level", ["[", "- ", "{a: ", "['],', ", "? "])
def test_no_depth_is_too_deep_to_be_refused(level: str) -> None:
    """libyaml's own bound stops what would overflow the stack; ours comes first where it can be read at all."""
    (finding,) = parse("x.yaml", (level * ((1 << 20) // len(level))).encode()).problems
    assert finding.code in ("TS101", "TS105")


@pytest.mark.parametrize(("depth", "codes"), [(40, []), (41, ["TS105"]), (900, ["TS105"])])
def test_forty_levels_are_the_most(depth: int, codes: list[str]) -> None:
    for text in ("[" * depth + "]" * depth, "".join("- " for _ in range(depth)) + "x"):
        assert [one.code for one in parse("x.yaml", text.encode()).problems] == codes


@given(st.binary(max_size=300))
def test_no_bytes_raise(data: bytes) -> None:
    load({"pools/dev.yaml": data, "recipes/ada.yaml": data, "pools/limits.yaml": data})


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(max_size=8),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(
                st.sampled_from(
                    (
                        "name",
                        "agents",
                        "kind",
                        "drain",
                        "suspend",
                        "limit",
                        "runtimes",
                        "argv",
                        "extensions",
                        "parameters",
                        "key",
                        "recipe",
                        "guard",
                        "retry",
                        "sub_recipes",
                        "path",
                        "type",
                        "response",
                        "json_schema",
                        "$schema",
                        "default",
                        "options",
                    )
                ),
                inner,
                max_size=4,
            )
        ),
        max_leaves=15,
    )
)
def test_no_shape_raises(value: object) -> None:
    text = yaml.safe_dump(value)
    for base in ("", POOL, LIMITS, RECIPE):
        data = base + (text if base and isinstance(value, dict) else text if not base else "")
        load({"pools/dev.yaml": data, "recipes/ada.yaml": data, "pools/limits.yaml": data})
