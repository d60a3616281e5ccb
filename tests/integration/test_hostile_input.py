"""Files and answers that mean harm: each is one clear complaint, within bounded time and memory."""

import json
import resource
import signal
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import FrameType

import pytest

from tests.integration.cli_call import Call, caller
from tests.unit.test_runtimes import declared, rendered
from tests.unit.test_validate import ADA, LIMITS, POOL, RECIPE
from tsched.model.errors import ConfigurationError
from tsched.model.plain import as_json

MEMORY = 512 << 20  # bytes beyond what this process has already
SECONDS = 60  # that a whole case may take on a busy machine; what is unbounded takes hours
BILLION = "a: &a [x, x]\n" + "".join(f"{b}: &{b} [*{a}, *{a}]\n" for a, b in zip("abcdefgh", "bcdefghi", strict=True))
LARGE = 100 << 20  # bytes


@pytest.fixture(autouse=True)
def bounded() -> Iterator[None]:
    """No more memory than that, and no more time."""

    def late(number: int, frame: FrameType | None) -> None:
        raise TimeoutError(f"it took longer than {SECONDS} s")

    before = resource.getrlimit(resource.RLIMIT_AS)
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + MEMORY, before[1]))
    handler = signal.signal(signal.SIGALRM, late)
    signal.alarm(SECONDS)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, handler)
    resource.setrlimit(resource.RLIMIT_AS, before)


def fleet(path: str, text: str | bytes | None) -> Callable[[Path], Mapping[str, str]]:
    """A fleet in the folder, one of its files as given; None: a very large one."""

    def write(folder: Path) -> Mapping[str, str]:
        files: dict[str, str | bytes | None] = {"pools/dev.yaml": POOL + ADA, "recipes/ada.yaml": RECIPE, path: text}
        for name, content in files.items():
            put(folder / name, content)
        return {}

    return write


def host(variable: str, name: str, text: str | bytes | None) -> Callable[[Path], Mapping[str, str]]:
    """No fleet, and a file of the host's as given."""

    def write(folder: Path) -> Mapping[str, str]:
        put(folder / name, text)
        put(folder / "recipes/ada.yaml", RECIPE)
        return {variable: str(folder / name), "TINYSCHEDULER_AGENT_LIMITS": '{"ada": 1}'}

    return write


def put(path: Path, content: str | bytes | None) -> None:
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(content.encode() if isinstance(content, str) else content or b"")
    if content is None:
        with path.open("r+b") as file:
            file.truncate(LARGE)


def pool(extra: str) -> Callable[[Path], Mapping[str, str]]:
    return fleet("pools/dev.yaml", POOL + ADA + extra)


def control(text: str | bytes | None) -> Callable[[Path], Mapping[str, str]]:
    return host("TINYSCHEDULER_AGENT_CONTROL_FILE", "control.json", text)


def settings(text: str | bytes | None) -> Callable[[Path], Mapping[str, str]]:
    return host("TSCHED_ENV_FILE", "host.env", text)


HOSTILE = {
    "aliases that double": (pool(BILLION), "dev.yaml:6:4: TS103"),
    "depth": (fleet("pools/dev.yaml", "[" * 500_000), "dev.yaml:1:"),
    "a file of 100 MB": (fleet("pools/dev.yaml", None), "dev.yaml:1:1: TS105"),
    "a recipe of 100 MB": (fleet("recipes/ada.yaml", None), "ada.yaml:1:1: TS105"),
    "a huge number": (pool(f"max_running: {'9' * 5000}\n"), "dev.yaml:6:"),
    "a huge duration": (fleet("pools/limits.yaml", f"{LIMITS}heartbeat: {'9' * 400}s\n"), "limits.yaml:3:"),
    "a NUL": (fleet("pools/dev.yaml", POOL + ADA + "# \0\n"), "dev.yaml:6:"),
    "UTF-16": (fleet("pools/dev.yaml", (POOL + ADA).encode("utf-16")), "dev.yaml:1:1: TS104"),
    "a tag": (pool("queue: !!python/object/apply:os.system [id]\n"), "dev.yaml:6:8: TS103"),
    "a deep JSON recipe": (fleet("recipes/ada.yaml", '{"a":' * 100_000 + "1" + "}" * 100_000), "ada.yaml:1:"),
    "a control file of 100 MB": (control(None), "control.json is larger than 1 MiB"),
    "a deep control file": (control("[" * 500_000), "control.json:1:1: TS105"),
    "a huge number in a control file": (control("9" * 500_000), "control.json:1:1: TS105"),
    "a control file that is no text": (control(b"\xff\xfe["), "control.json is not UTF-8 text"),
    "an env file of 100 MB": (settings(None), "host.env is larger than 1 MiB"),
    "an env file that is no text": (settings(b"A=\xff"), "it is not UTF-8 text"),
    "an env file with a NUL": (settings("A=1\nB=\0\n"), "host.env:2: B holds a NUL character"),
    "references that double": (settings("A=0123456789abcdef\n" + "A=${A}${A}\n" * 40), "A is longer than 131072"),
}  # fmt: skip


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_file_is_one_complaint(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    write, words = HOSTILE[name]
    for variable, value in write(tmp_path).items():
        monkeypatch.setenv(variable, value)
    monkeypatch.setenv("TSCHED_STATE", str(tmp_path / "state"))
    monkeypatch.chdir(tmp_path)
    call: Call = caller(capsys)
    done = call("validate")
    assert done.code in (1, 2)
    complaints = [line for line in (done.out + done.err).splitlines() if "error: " in line or line[:8] == "tsched: "]
    assert len(complaints) == 1, done.out + done.err
    assert words in complaints[0]
    assert "Traceback" not in done.err


def test_a_mark_of_byte_order_is_no_content(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    fleet("pools/dev.yaml", "\ufeff" + POOL + ADA)(tmp_path)
    monkeypatch.chdir(tmp_path)
    assert caller(capsys)("validate").code == 0


@pytest.mark.parametrize("text", ["{% for i in range(10**9) %}x{% endfor %}", "{{ range(10**9)|list }}"])
def test_a_hostile_template_is_one_complaint(text: str) -> None:
    with pytest.raises(ConfigurationError, match=r"^recipes/vaela.yaml: its prompt can't be rendered: [^\n]*$"):
        rendered(declared("task_title", text=text), task_title="x")


@pytest.mark.parametrize("text", ["\x9b31m", "\x7f", "\u202e", "\u2066", "\u2028", "\ud800", "é \u4e2d"])
def test_json_says_the_same_and_drives_no_terminal(text: str) -> None:
    shown = as_json({text: [text]}, indent=2)
    assert json.loads(shown) == {text: [text]}
    assert shown.isprintable() is False  # its own line ends
    assert all(line.isprintable() for line in shown.split("\n"))
    assert ("é" in shown) is ("é" in text)
