"""Findings for other programs: annotations of a pull request, SARIF 2.1.0, JUnit."""

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import field
from typing import TYPE_CHECKING, Final

from tsched import __version__
from tsched.model.diagnostic import Diagnostic, Severity
from tsched.model.records import dataclass
from tsched.validate.codes import CODES, WARNINGS
from tsched.validate.report import render_json, render_text

SARIF_SCHEMA = "https://docs.oasis-open.org/sarif/sarif/v2.1.0/errata01/os/schemas/sarif-schema-2.1.0.json"

if TYPE_CHECKING:
    from xml.etree.ElementTree import Element

_NO_XML: Final = "[^\t\n\r -\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]"  # 10 ms to compile, for JUnit alone


@dataclass(frozen=True, slots=True, kw_only=True)
class Checked:
    """What a check came to. `files`: every path that was looked at; `sources`: texts of those with findings.

    `strict`: warnings fail as errors do. `color`: for a terminal.
    """

    found: Sequence[Diagnostic]
    files: Sequence[str] = ()
    sources: Mapping[str, str] = field(default_factory=dict)
    strict: bool = False
    color: bool = False


def text(checked: Checked) -> str:
    """For a person: each finding with its line and a caret."""
    return render_text(checked.found, checked.sources, color=checked.color)


def as_json(checked: Checked) -> str:
    """A JSON array of findings."""
    return render_json(checked.found) + "\n"


def github(checked: Checked) -> str:
    """Workflow commands: annotations at the changed lines of a pull request.

    Escapes as the Actions toolkit's `escapeData` and `escapeProperty` do.
    """
    return "".join(
        f"::{one.severity} file={_property(one.path)},line={one.line},col={one.column},"
        f"title={_property(f'{one.code} {CODES[one.code]}')}::{_data(f'{one.message} {one.mend}')}\n"
        for one in checked.found
    )


def _data(value: str) -> str:
    return value.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _property(value: str) -> str:
    return _data(value).replace(":", "%3A").replace(",", "%2C")


def sarif(checked: Checked) -> str:
    """SARIF 2.1.0 (OASIS), as code scanning takes it: one run, the rules, a result a finding."""
    used = sorted({one.code for one in checked.found})
    rules = [
        {
            "id": code,
            "name": code,
            "shortDescription": {"text": CODES[code]},
            "help": {"text": f"`tsched explain {code}` shows why, with a bad and a good example."},
            "defaultConfiguration": {"level": "warning" if code in WARNINGS else "error"},
        }
        for code in used
    ]
    driver = {"name": "tsched", "semanticVersion": __version__, "rules": rules}
    run = {
        "tool": {"driver": driver},
        "columnKind": "unicodeCodePoints",
        "results": [_result(one, used.index(one.code)) for one in checked.found],
    }
    return json.dumps({"$schema": SARIF_SCHEMA, "version": "2.1.0", "runs": [run]}, indent=2) + "\n"


def _result(one: Diagnostic, rule: int) -> dict[str, object]:
    from urllib.parse import quote

    place = {
        "artifactLocation": {"uri": quote(one.path), "uriBaseId": "%SRCROOT%"},
        "region": {"startLine": one.line, "startColumn": one.column},
    }
    return {
        "ruleId": one.code,
        "ruleIndex": rule,
        "level": str(one.severity),
        "message": {"text": f"{one.message} {one.mend}"},
        "locations": [{"physicalLocation": place}],
    }


def junit(checked: Checked) -> str:
    """A test case for each file; its findings that fail the check are failures, the others its output."""
    import xml.etree.ElementTree as ET

    by_file: dict[str, list[Diagnostic]] = {path: [] for path in checked.files}
    for one in checked.found:
        by_file.setdefault(one.path, []).append(one)
    cases = [_case(path, by_file[path], strict=checked.strict) for path in sorted(by_file)]
    failed = sum(case.find("failure") is not None for case in cases)
    counts = {"tests": str(len(cases)), "failures": str(failed), "errors": "0"}
    root = ET.Element("testsuites", counts)
    ET.SubElement(root, "testsuite", {"name": "tsched validate", **counts}).extend(cases)
    ET.indent(root)
    return ET.tostring(root, encoding="unicode", xml_declaration=True) + "\n"


def _case(path: str, found: Sequence[Diagnostic], *, strict: bool) -> "Element":
    import xml.etree.ElementTree as ET

    case = ET.Element("testcase", {"classname": "tsched.validate", "name": _plain(path), "file": _plain(path)})
    failing = [one for one in found if fails(one, strict=strict)]
    if failing:
        failure = ET.SubElement(case, "failure", {"message": _plain(str(failing[0])), "type": failing[0].code})
        failure.text = _plain("\n".join(map(str, failing)))
    if rest := [str(one) for one in found if one not in failing]:
        ET.SubElement(case, "system-out").text = _plain("\n".join(rest))
    return case


def _plain(value: str) -> str:
    """Without what XML 1.0 can't hold at all."""
    return re.sub(_NO_XML, "?", value)


def fails(one: Diagnostic, *, strict: bool) -> bool:
    """Whether a finding fails the check."""
    return strict or one.severity is Severity.ERROR


FORMATS: Mapping[str, Callable[[Checked], str]] = {
    "text": text, "json": as_json, "github": github, "sarif": sarif, "junit": junit,
}  # fmt: skip
