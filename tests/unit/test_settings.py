"""Host settings: precedence, sources, the env file, bad values, masking."""

from collections.abc import Mapping
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tsched.model.errors import ConfigurationError
from tsched.model.fleet import Limits
from tsched.model.secrets import masked
from tsched.settings import (
    VARIABLES,
    Origin,
    Settings,
    load,
    resolve,
)
from tsched.settings.envfile import parse_env_file
from tsched.settings.show import as_json, rows

CWD = Path("/somewhere")


def settled(
    environ: Mapping[str, str] | None = None, file: str = "", flags: Mapping[str, str] | None = None
) -> Settings:
    return resolve(environ or {}, file, flags or {}, cwd=CWD, env_file=CWD / "tinyscheduler.env")


# --- precedence ---


def test_flags_win_over_environment_over_env_file_over_default() -> None:
    file = "TSCHED_BRANCH=file\n"
    assert settled().branch == "main"
    assert settled(file=file).branch == "file"
    assert settled({"TSCHED_BRANCH": "env"}, file).branch == "env"
    assert settled({"TSCHED_BRANCH": "env"}, file, {"branch": "flag"}).branch == "flag"


def test_new_names_win_over_old_ones_within_a_layer_but_not_across_layers() -> None:
    both = {"TSCHED_LOG_LEVEL": "ERROR", "TINYSCHEDULER_LOG_LEVEL": "DEBUG"}
    assert settled(both).log_level == "ERROR"
    assert settled({"TINYSCHEDULER_LOG_LEVEL": "DEBUG"}, "TSCHED_LOG_LEVEL=ERROR").log_level == "DEBUG"


def test_each_value_remembers_where_it_came_from() -> None:
    settings = settled({"TINYSCHEDULER_LOG_LEVEL": "debug"}, "TSCHED_REPO=/fleet.git", {"dry_run": "true"})
    assert str(settings.sources["log_level"]) == "environment TINYSCHEDULER_LOG_LEVEL"
    assert str(settings.sources["repo"]) == "env file TSCHED_REPO"
    assert str(settings.sources["dry_run"]) == "flag --dry-run"
    assert settings.sources["branch"].origin is Origin.DEFAULT
    assert set(settings.sources) == set(VARIABLES)


def test_an_empty_value_is_not_set() -> None:
    settings = settled({"TSCHED_REPO": "", "TSCHED_BRANCH": ""}, "TSCHED_BRANCH=file")
    assert settings.repo is None
    assert settings.branch == "file"


# --- git wins ---


def test_git_wins_over_old_figures_but_not_over_flags() -> None:
    old = {
        "TSCHED_REPO": "/fleet.git",
        "TINYSCHEDULER_LOOP_INTERVAL_SEC": "7",
        "TINYSCHEDULER_HEARTBEAT_SEC": "3",
        "TINYSCHEDULER_MAX_RUNTIME_SEC": "60",
        "TINYSCHEDULER_AGENT_LIMITS": '{"vaela": 9}',
    }
    settings = settled(old)
    assert (settings.loop_interval, settings.heartbeat, settings.max_runtime) == (None, None, None)
    assert settings.agent_limits == {}
    assert "git wins" in str(settings.sources["loop_interval"])
    assert "git wins" in str(settings.sources["agent_limits"])
    assert len([note for note in settings.notes if "fleet repo decides" in note]) == 4
    flagged = settled(old, flags={"loop_interval": "9", "agent_limits": "vaela=2"})
    assert flagged.loop_interval == 9.0
    assert flagged.agent_limits == {"vaela": 2}


def test_without_a_fleet_repo_the_old_figures_count() -> None:
    settings = settled({"TINYSCHEDULER_LOOP_INTERVAL_SEC": "7", "TINYSCHEDULER_AGENT_LIMITS": "vaela:3,damien:2"})
    assert settings.loop_interval == 7.0
    assert settings.agent_limits == {"vaela": 3, "damien": 2}


def test_a_limit_flag_is_laid_over_the_other_limits() -> None:
    settings = settled({"TINYSCHEDULER_AGENT_LIMITS": '{"a": 1, "b": 2}'}, flags={"agent_limits": "b=5"})
    assert settings.agent_limits == {"a": 1, "b": 5}


# --- values ---


def test_paths_stand_on_the_base_path_and_default_under_the_state_folder() -> None:
    settings = settled({"TSCHED_BASE_PATH": "/srv/x", "TSCHED_STATE": "st"})
    assert settings.state == Path("/srv/x/st")
    assert settings.log_dir == Path("/srv/x/st/logs")
    assert settings.running_dir == Path("/srv/x/st/running")
    assert settings.lock_file == Path("/srv/x/st/tinyscheduler.lock")
    assert settled({"TINYSCHEDULER_LOG_DIR": "logs"}).log_dir == CWD / "logs"


@pytest.mark.parametrize(
    ("text", "repo"),
    [
        ("fleet.git", "/somewhere/fleet.git"),
        ("../fleet.git", "/fleet.git"),
        ("/abs/fleet.git", "/abs/fleet.git"),
        ("git@host:team/fleet.git", "git@host:team/fleet.git"),
        ("https://host/fleet.git", "https://host/fleet.git"),
        ("./odd:name/fleet", "/somewhere/odd:name/fleet"),
    ],
)
def test_a_repo_that_is_a_path_stands_on_the_base_path(text: str, repo: str) -> None:
    assert settled({"TSCHED_REPO": text}).repo == repo


@pytest.mark.parametrize(
    ("text", "tasks"),
    [
        ("embedded", None),
        ("http://host:3000", "tinytask+http://host:3000"),
        ("tinytask+https://host/", "tinytask+https://host"),
    ],
)
def test_task_sources(text: str, tasks: str | None) -> None:
    assert settled({"TSCHED_TASKS": text}).tasks == tasks


def test_the_old_endpoint_is_a_tinytask_source() -> None:
    settings = settled({"TINYSCHEDULER_MCP_ENDPOINT": "http://localhost:3000"})
    assert settings.tasks == "tinytask+http://localhost:3000"
    assert as_json(settings)["mcp_endpoint"] == "http://localhost:3000"


def test_lists_are_split_and_trimmed() -> None:
    settings = settled({"TSCHED_POOLS": "dev, qa,", "TSCHED_PASS_ENV": "API_KEY,HOME"})
    assert settings.pools.names == ("dev", "qa")
    assert settings.pass_env == ("API_KEY", "HOME")


@pytest.mark.parametrize(
    ("name", "text", "word"),
    [
        ("TSCHED_LOOP_INTERVAL", "60", "such as 90s"),
        ("TSCHED_LOOP_INTERVAL", "10ms", "at least 50ms"),
        ("TINYSCHEDULER_LOOP_INTERVAL_SEC", "60s", "seconds as a number"),
        ("TINYSCHEDULER_LOOP_INTERVAL_SEC", "nan", "seconds as a number"),
        ("TINYSCHEDULER_MAX_RUNTIME_SEC", "0", "at least"),
        ("TSCHED_DRY_RUN", "maybe", "true or false"),
        ("TSCHED_LOG_LEVEL", "LOUD", "one of DEBUG"),
        ("TSCHED_REPO", "--upload-pack=x", "dash"),
        ("TSCHED_REPO", "ext::sh -c x", "spaces"),
        ("TSCHED_BRANCH", "-x", "branch's name"),
        ("TSCHED_BRANCH", "a..b", "branch's name"),
        ("TSCHED_TASKS", "redis://x", "tinytask+http"),
        ("TSCHED_SERVE_URL", "http://runner:83000", "host or port"),
        ("TSCHED_SERVE_URL", "http://[::1", "host or port"),
        ("TSCHED_POOLS", "Dev", "separated by commas"),
        ("TSCHED_PASS_ENV", "A B", "separated by commas"),
        ("TINYSCHEDULER_AGENT_LIMITS", '{"vaela": 2, ...}', "no JSON"),
        ("TINYSCHEDULER_AGENT_LIMITS", '{"vaela": 2, "vaela": 3}', "twice"),
        ("TINYSCHEDULER_AGENT_LIMITS", '{"vaela": true}', "whole number"),
        ("TINYSCHEDULER_AGENT_LIMITS", '{"vaela": -1}', "whole number"),
        ("TINYSCHEDULER_AGENT_LIMITS", "vaela", "a limit for each agent"),
        ("TINYSCHEDULER_AGENT_LIMITS", "vaela:two", "whole number"),
        ("TINYSCHEDULER_AGENT_LIMITS", "Va ela:2", "agent's name"),
    ],
)
def test_a_bad_value_names_its_variable_and_the_mend(name: str, text: str, word: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        settled({name: text})
    assert name in str(caught.value)
    assert word in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_bad_flag_is_named_as_a_flag() -> None:
    with pytest.raises(ConfigurationError, match=r"--agent-limit"):
        settled(flags={"agent_limits": "x"})


def test_flags_of_time_take_seconds_or_a_duration() -> None:
    assert settled(flags={"loop_interval": "30"}).loop_interval == 30.0
    assert settled(flags={"loop_interval": "250ms"}).loop_interval == 0.25


def test_a_misspelt_variable_is_pointed_out() -> None:
    assert any("did you mean TSCHED_BRANCH" in note for note in settled({"TSCHED_BRANCHE": "x"}).notes)
    assert settled({"TSCHED_TASK_ID": "7", "TSCHED_RUN_ID": "r"}).notes == ()


# --- the env file ---


def test_env_file_forms() -> None:
    text = """\
# a comment
export PLAIN=value # with a remark
SINGLE='it is # literal $X'
DOUBLE="line\\nnext \\"q\\" \\\\"
URL=http://h/#frag
EMPTY=
  SPACED = padded \t
LIMITS='{
"vaela": 3,
"damien": 2
}'
JSON={"vaela": 2}
"""
    assert parse_env_file(text, name="f") == {
        "PLAIN": "value",
        "SINGLE": "it is # literal $X",
        "DOUBLE": 'line\nnext "q" \\',
        "URL": "http://h/#frag",
        "EMPTY": "",
        "SPACED": "padded",
        "LIMITS": '{\n"vaela": 3,\n"damien": 2\n}',
        "JSON": '{"vaela": 2}',
    }
    assert parse_env_file(text.replace("\n", "\r\n"), name="f")["LIMITS"] == '{\n"vaela": 3,\n"damien": 2\n}'


def test_env_file_references() -> None:
    text = "BASE=/srv\nLOGS=${BASE}/logs\nKEPT='${BASE}'\nOTHER=${NONE:-fallback}\nHOST=${FROM_HOST}\n"
    found = parse_env_file(text, name="f", environ={"FROM_HOST": "h"})
    assert found == {"BASE": "/srv", "LOGS": "/srv/logs", "KEPT": "${BASE}", "OTHER": "fallback", "HOST": "h"}


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("A=1\nnonsense\n", "f:2:"),
        ("A='open\nB=2", "f:1: A"),
        ("\n\nA='x' y\n", "f:3: A"),
        ("1A=x", "f:1:"),
        ("A=\0", "f:1:"),
    ],
)
def test_a_bad_env_file_says_where(text: str, place: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        parse_env_file(text, name="f")
    assert str(caught.value).startswith(place)


@given(
    st.dictionaries(
        st.from_regex(r"[A-Z_][A-Z0-9_]{0,8}", fullmatch=True),
        st.text(st.characters(exclude_characters="'\0\r", codec="utf-8")),
    )
)
def test_single_quoted_values_come_back_exactly(wanted: dict[str, str]) -> None:
    text = "".join(f"{name}='{value}'\n" for name, value in wanted.items())
    assert parse_env_file(text, name="f") == wanted


@given(st.text(st.characters(codec="utf-8")))
def test_any_text_is_read_or_refused_by_name(text: str) -> None:
    try:
        parse_env_file(text, name="f")
    except ConfigurationError as error:
        assert str(error).startswith("f:")


def test_load_finds_the_env_file_in_the_base_path(tmp_path: Path) -> None:
    (tmp_path / "tinyscheduler.env").write_text("TSCHED_BRANCH=found\nSECRET_KEY=k\n")
    settings = load(environ={"SECRET_KEY2": "x"}, cwd=tmp_path)
    assert settings.branch == "found"
    assert settings.env_file == tmp_path / "tinyscheduler.env"
    assert settings.environ["SECRET_KEY"] == "k"
    elsewhere = load({"base_path": str(tmp_path)}, environ={}, cwd=Path("/"))
    assert (elsewhere.branch, elsewhere.base_path) == ("found", tmp_path)


def test_a_base_path_in_the_env_file_stands_on_that_files_folder(tmp_path: Path) -> None:
    (tmp_path / "my.env").write_text("TINYSCHEDULER_BASE_PATH=deploy\n")
    settings = load({"env_file": str(tmp_path / "my.env")}, environ={}, cwd=Path("/"))
    assert settings.base_path == tmp_path / "deploy"
    assert settings.state == tmp_path / "deploy/state"


def test_a_missing_or_unreadable_env_file_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="No such file"):
        load({"env_file": "nowhere.env"}, environ={}, cwd=tmp_path)
    (tmp_path / "bad.env").write_bytes(b"A=\xff\n")
    with pytest.raises(ConfigurationError, match="UTF-8"):
        load({"env_file": "bad.env"}, environ={}, cwd=tmp_path)


# --- what is shown ---


def test_no_secret_is_shown_anywhere() -> None:
    settings = settled(
        {
            "TSCHED_REPO": "https://bot:hunter2@host/fleet.git",
            "TSCHED_TASKS": "http://user:hunter2@host:3000/?api_key=hunter2",
            "TSCHED_WEBHOOK_SECRET": "hunter2",
            "TSCHED_STATUS_TOKEN": "hunter2",
            "TSCHED_SERVE_TOKEN": "hunter2",
            "TSCHED_TASKS_TOKEN": "hunter2",
        }
    )
    assert "hunter2" not in repr(rows(settings)) + repr(as_json(settings)) + repr(settings) + settings.shown_repo
    assert settings.webhook_secret == "hunter2"
    with pytest.raises(ConfigurationError) as caught:
        settled({"TSCHED_REPO": "https://bot:hunter2@host/fl eet"})
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("https://ghp_token@host/x", "https://********@host/x"),
        ("https://u:p@ss@host/x", "https://u:********@host/x"),
        ("ssh://git@host/x", "ssh://git@host/x"),
        ("git@host:x", "git@host:x"),
        ("see https://host/x?a=1&access_token=t0k#y", "see https://host/x?a=1&access_token=********#y"),
        ("/plain/p@th", "/plain/p@th"),
    ],
)
def test_masking(text: str, shown: str) -> None:
    assert masked(text) == shown


def test_json_has_the_old_keys_with_the_figures_in_force() -> None:
    shown = as_json(
        settled({"TSCHED_REPO": "/f", "TSCHED_HEARTBEAT": "2s"}),
        limits=Limits(loop_interval=5.0, heartbeat=9.0),
        agent_limits={"vaela": 3},
    )
    old = (
        "base_path running_dir log_dir recipes_dir bin_dir task_cache_dir lock_file agent_control_file agent_limits "
    )
    old += (
        "goose_bin mcp_endpoint loop_interval_sec heartbeat_interval_sec max_runtime_sec dry_run log_level enabled "
    )
    old += "disable_blocking hostname"
    assert set(old.split()) <= set(shown)
    assert (shown["loop_interval_sec"], shown["heartbeat_interval_sec"]) == (5.0, 2.0)
    assert shown["agent_limits"] == {"vaela": 3}


def test_rows_name_every_setting_but_the_limits() -> None:
    names = [name for name, _, _ in rows(settled())]
    assert names == [name for name in VARIABLES if name != "agent_limits"]


def test_the_size_of_runs_logs_is_a_size() -> None:
    assert settled().run_log_max == 64 << 20
    assert settled({"TSCHED_RUN_LOG_MAX": "2Gi"}).run_log_max == 2 << 30
    assert settled({"TSCHED_RUN_LOG_MAX": "8MiB"}).run_log_max == 8 << 20
    assert ("run_log_max", "64Mi", "default") in rows(settled())
    for text, mend in (("64", "Ki, Mi, Gi or Ti"), ("64Ki", "at least 1Mi")):
        with pytest.raises(ConfigurationError, match=f"TSCHED_RUN_LOG_MAX .*{mend}"):
            settled({"TSCHED_RUN_LOG_MAX": text})
