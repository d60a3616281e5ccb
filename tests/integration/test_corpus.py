"""Every fleet of the corpus gives exactly the findings that are written above it, and no byte of it raises."""

import json
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.integration.corpus import Case, cases
from tsched.model.diagnostic import Diagnostic, Severity
from tsched.model.files import RepoFile, RepoFiles
from tsched.validate.codes import CODES, WARNINGS
from tsched.validate.fleet import Loaded, load_fleet
from tsched.validate.folder import read_folder
from tsched.validate.report import render_text
from tsched.validate.schema import schema_of
from tsched.validate.source import Value, parse

BROKEN = {case.name: case for case in cases("broken")}
GOOD = {case.name: case for case in cases("good")}
BOTH = BROKEN | GOOD
ELSEWHERE = {"TS205"}  # takes a thousand mistakes in one file: the rulebook's own example is run by its test
SCHEMAS = Path(__file__).parents[2] / "schemas"


def line(one: Diagnostic) -> str:
    return f"{one.path}:{one.line}:{one.column} {one.code}"


@pytest.mark.parametrize("name", BOTH)
def test_a_fleet_gives_its_findings_and_no_others(name: str, tmp_path: Path) -> None:
    case = BOTH[name]
    loaded = load_fleet(read_folder(case.extract(tmp_path)))
    assert [line(one) for one in loaded.diagnostics] == list(case.expected), render_text(loaded.diagnostics, {})
    assert (loaded.fleet is None) == (name in BROKEN)


def test_there_are_enough_of_them_and_each_code_has_one() -> None:
    assert len(BROKEN) >= 120
    assert len(GOOD) >= 30
    assert not BROKEN.keys() & GOOD.keys()
    summaries = Counter(case.summary for case in BOTH.values())
    assert [text for text, count in summaries.items() if count > 1] == []
    seen = {entry.rpartition(" ")[2] for case in BROKEN.values() for entry in case.expected}
    warned = {entry.rpartition(" ")[2] for case in GOOD.values() for entry in case.expected}
    assert {code for code in CODES if not code.startswith("TS5")} - seen - (warned & WARNINGS) == ELSEWHERE


# -- every key of every schema stands in a good fleet


def schema_keys(schema: Mapping[str, object], root: Mapping[str, object], place: str = "") -> Iterator[str]:
    """The path of each key that a schema knows: `agents[].limit`, `runtimes.*.argv`."""
    if isinstance(target := schema.get("$ref"), str):
        found: object = root
        for step in target.removeprefix("#/").split("/"):
            found = found[step] if isinstance(found, dict) else None
        assert isinstance(found, dict)
        yield from schema_keys(found, root, place)
    for branch in _list(schema.get("oneOf")):
        yield from schema_keys(_dict(branch), root, place)
    for key, inner in _dict(schema.get("properties")).items():
        yield f"{place}.{key}"
        yield from schema_keys(_dict(inner), root, f"{place}.{key}")
    if isinstance(inner := schema.get("additionalProperties"), dict):
        yield f"{place}.*"
        yield from schema_keys(inner, root, f"{place}.*")
    if isinstance(inner := schema.get("items"), dict):
        yield from schema_keys(inner, root, f"{place}[]")


def given_keys(value: Value, place: str = "") -> Iterator[str]:
    """The path of each key of a value, as it is and with a star for its last name."""
    match value:
        case dict():
            for key, inner in value.items():
                for name in (key, "*"):
                    yield f"{place}.{name}"
                    yield from given_keys(inner, f"{place}.{name}")
        case list():
            for inner in value:
                yield from given_keys(inner, f"{place}[]")


def _dict(value: object) -> Mapping[str, object]:
    return value if isinstance(value, dict) else {}


def _list(value: object) -> list[object]:
    return value if isinstance(value, list) else []


@pytest.mark.parametrize("schema", ["pool", "limits", "recipe"])
def test_every_key_of_a_schema_stands_in_a_good_fleet(schema: str) -> None:
    known = set(schema_keys(schema_of(schema), schema_of(schema)))
    used = {
        key
        for case in GOOD.values()
        for path, data in case.files.items()
        if schema_name(path) == schema and "nested" not in case.name
        for key in given_keys(parse(path, data).value)
    }
    assert len(known) > 10
    assert known - used == set()


# -- the command says what the library says

COMMANDS = (
    "many-in-many-files",
    "many-names-at-once",
    "yaml-latin-1",
    "link-to-a-pool",
    "limit-above-the-caps",
    "every-key-of-a-recipe",
    "style-crlf",
)


@pytest.mark.parametrize("name", COMMANDS)
def test_the_command_says_the_same(name: str, tmp_path: Path) -> None:
    case = BOTH[name]
    words = [sys.executable, "-m", "tsched", "validate", str(case.extract(tmp_path)), "--json"]
    said = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True, check=False)
    found = json.loads(said.stdout)
    assert [f"{one['path']}:{one['line']}:{one['column']} {one['code']}" for one in found] == list(case.expected)
    assert said.returncode == (1 if name in BROKEN else 0), said.stderr


# -- an editor that knows only our JSON Schemas says the same of each file

# Files that check-jsonschema's YAML reader (ruamel) reads otherwise than YAML 1.2's core schema has it, and why.
# As pip installs it that reader is Python; with ruamel.yaml.clib, which tests/bench measures, it is libyaml.
FORMS: Mapping[str, str] = {
    "python": "import sys; sys.modules['_ruamel_yaml'] = None; from check_jsonschema import main; main()",
    "libyaml": "from check_jsonschema import main; main()",
}
ONLY_PYTHON = {"style-spaces-after-values--pools-dev.yaml"}
OTHERWISE: Mapping[str, str] = {
    "scalar-words-of-yaml-1-1--pools-dev.yaml": "1_000 is a number to ruamel, text in YAML 1.2",
    "style-spaces-after-values--pools-dev.yaml": "a tab behind a key's colon: ruamel refuses it, YAML 1.2 does not",
    "type-limit-binary--pools-dev.yaml": "0b11 is a number to ruamel, text in YAML 1.2",
    "type-limit-with-underscore--pools-dev.yaml": "1_000 is a number to ruamel, text in YAML 1.2",
}


def schema_name(path: str) -> str | None:
    """The schema that a file is checked by, None for a file that is not read."""
    if path == "pools/limits.yaml":
        return "limits"
    if path.startswith("pools/") and path.count("/") == 1 and path.endswith(".yaml"):
        return "pool"
    return "recipe" if path.startswith("recipes/") and path.endswith((".yaml", ".json")) else None


def shape(path: str, case: Case) -> bool | None:
    """Whether a file has the shape that its schema wants; None where it could not be read as YAML."""
    codes = [entry.rpartition(" ")[2] for entry in case.expected if entry.startswith(f"{path}:")]
    if any("TS101" <= code <= "TS108" for code in codes):
        return None
    return not any(code.startswith("TS2") or code in ("TS109", "TS312") for code in codes)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("schema", ["pool", "limits", "recipe"])
def test_check_jsonschema_agrees(schema: str, form: str, tmp_path: Path) -> None:
    pytest.importorskip("check_jsonschema")
    wanted: dict[str, bool] = {}
    for case in BOTH.values():
        for path, data in case.files.items():
            fits = shape(path, case)
            if schema_name(path) == schema and fits is not None:
                file = tmp_path / f"{case.name}--{path.replace('/', '-')}"
                file.write_bytes(data)
                wanted[file.name] = fits
    words = [sys.executable, "-c", FORMS[form], "--output-format", "json", "--schemafile"]
    words += [str(SCHEMAS / f"{schema}.schema.json"), *sorted(str(tmp_path / name) for name in wanted)]
    said = json.loads(subprocess.run(words, capture_output=True, text=True, check=False).stdout)
    refused = {Path(one["filename"]).name for one in [*said["errors"], *said["parse_errors"]]}
    differing = {name for name, fits in wanted.items() if fits == (name in refused)}
    expected = OTHERWISE.keys() - (ONLY_PYTHON if form == "libyaml" else set())
    assert differing == expected & wanted.keys()
    assert {True, False} <= set(wanted.values())


# -- no change of any byte raises, and each finding points into its file

ODD = (
    b"\0", b"\t", b"\r", b"\n", b"\r\n", b"\xef\xbb\xbf", b"\xff", b"\xc3", b"\x85", b"\xc2\x85", b"\xe2\x80\xa8",
    b"\x7f", b"\xf0\x9f\x98\x80", b"'", b'"', b"[", b"]", b"{", b"}", b"{{", b"}}", b"{%", b"&a ", b"*a ", b"!!int ",
    b"<<: ", b": ", b"- ", b"#", b"---\n", b"...\n", b"? ", b"|", b">", b"%", b"@", b"~", b"null", b"-", b"1e999",
    b".nan", b"=======\n", b"9" * 400, b"9" * 400 + b"d",
)  # fmt: skip
_BREAK = re.compile("\r\n|[\n\r\x85\u2028\u2029]")  # YAML 1.1's, which is libyaml's


@st.composite
def changed(draw: st.DrawFn, data: bytes, other: bytes) -> bytes:
    """A file's bytes after one to four slips of a hand, an editor or a disk."""
    for _ in range(draw(st.integers(1, 4))):
        start = draw(st.integers(0, len(data)))
        end = min(len(data), start + draw(st.integers(0, 30)))
        piece = data[start:end]
        match draw(st.sampled_from(("delete", "repeat", "swap", "insert", "truncate", "join"))):
            case "delete":
                data = data[:start] + data[end:]
            case "repeat":
                data = data[:end] + piece + data[end:]
            case "swap":
                data = data[:start] + data[end : end + len(piece)] + piece + data[end + len(piece) :]
            case "insert":
                data = data[:start] + draw(st.sampled_from(ODD)) + data[start:]
            case "truncate":
                data = data[:start]
            case _:
                data += other
    return data


@st.composite
def fleets(draw: st.DrawFn) -> dict[str, bytes]:
    """A fleet of the corpus with one of its files changed."""
    small = [case for case in BOTH.values() if case.files and max(map(len, case.files.values())) < 10_000]
    case, other = draw(st.sampled_from(small)), draw(st.sampled_from(small))
    path = draw(st.sampled_from(sorted(case.files)))
    joined = draw(st.sampled_from(sorted(other.files.values())))
    return {**case.files, path: draw(changed(case.files[path], joined))}


def load(files: Mapping[str, bytes]) -> Loaded:
    entries = {path: RepoFile(path=path, blob=path, size=len(data)) for path, data in files.items()}
    return load_fleet(RepoFiles(revision="r", entries=entries, read=lambda file: files[file.path]))


def inside(one: Diagnostic, data: bytes) -> bool:
    """Whether a place is in the file, or just behind a line's end. Bytes are counted where they are no text."""
    if (one.line, one.column) == (1, 1):
        return True
    text = data.decode("latin-1") if one.code == "TS104" else data.decode("utf-8-sig")
    for lines in (text.split("\n"), _BREAK.split(text)):
        if 1 <= one.line <= len(lines) and 1 <= one.column <= len(lines[one.line - 1]) + 1:
            return True
    return False


@settings(deadline=None, max_examples=1500, suppress_health_check=[HealthCheck.too_slow])
@given(fleets())
def test_no_slip_raises_and_each_finding_points_into_its_file(files: dict[str, bytes]) -> None:
    for one in load(files).diagnostics:
        assert one.message
        assert one.mend
        assert (one.severity is Severity.ERROR) or one.code in WARNINGS
        if one.path != "pools":  # the folder itself, where there is no file
            assert inside(one, files[one.path]), line(one)
