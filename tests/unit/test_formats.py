"""Findings for other programs, read back as those programs read them."""

import json
import xml.etree.ElementTree as ET

from hypothesis import given
from hypothesis import strategies as st

from tsched.model.diagnostic import Diagnostic, Severity
from tsched.validate.formats import Checked, github, junit, sarif

ERROR = Diagnostic(
    path="pools/dev.yaml", line=5, column=11, code="TS304", message="It needs x, 100% sure.\nReally.", mend="Add it."
)
WARNING = Diagnostic(
    path="recipes/a,b:c d.yaml", line=1, column=1, code="TS310", message="No agent uses it.", mend="Remove it.",
    severity=Severity.WARNING,
)  # fmt: skip
CHECKED = Checked(found=(ERROR, WARNING), files=("pools/dev.yaml", "pools/qa.yaml", "recipes/a,b:c d.yaml"))


def test_github_annotations_are_escaped_as_the_runner_reads_them() -> None:
    assert github(CHECKED).splitlines() == [
        "::error file=pools/dev.yaml,line=5,col=11,title=TS304 an agent's recipe is not in the repo"
        "::It needs x, 100%25 sure.%0AReally. Add it.",
        "::warning file=recipes/a%2Cb%3Ac d.yaml,line=1,col=1,title=TS310 a recipe nobody uses"
        "::No agent uses it. Remove it.",
    ]


def test_sarif_names_rules_places_and_levels() -> None:
    (run,) = json.loads(sarif(CHECKED))["runs"]
    rules = run["tool"]["driver"]["rules"]
    assert [rule["id"] for rule in rules] == ["TS304", "TS310"]
    first, second = run["results"]
    assert (first["ruleId"], rules[first["ruleIndex"]]["id"], first["level"]) == ("TS304", "TS304", "error")
    assert first["locations"][0]["physicalLocation"]["region"] == {"startLine": 5, "startColumn": 11}
    assert second["level"] == "warning"
    assert second["locations"][0]["physicalLocation"]["artifactLocation"]["uri"] == "recipes/a%2Cb%3Ac%20d.yaml"
    assert json.loads(sarif(Checked(found=())))["runs"][0]["results"] == []


def cases(text: str) -> dict[str | None, tuple[int, int]]:
    """Failures and outputs of each case."""
    return {case.get("name"): (len(case.findall("failure")), len(case.findall("system-out"))) for case in
            ET.fromstring(text).iter("testcase")}  # fmt: skip


def test_junit_has_a_case_a_file_and_warnings_fail_under_strict_alone() -> None:
    assert cases(junit(CHECKED)) == {
        "pools/dev.yaml": (1, 0), "pools/qa.yaml": (0, 0), "recipes/a,b:c d.yaml": (0, 1),
    }  # fmt: skip
    strict = Checked(found=CHECKED.found, files=CHECKED.files, strict=True)
    assert cases(junit(strict))["recipes/a,b:c d.yaml"] == (1, 0)
    suite = ET.fromstring(junit(strict)).find("testsuite")
    assert suite is not None
    assert (suite.get("tests"), suite.get("failures")) == ("3", "2")


@given(st.text(), st.text(min_size=1))
def test_any_text_survives_in_every_format(message: str, path: str) -> None:
    odd = Checked(found=(Diagnostic(path=path, line=1, column=1, code="TS101", message=message, mend="m."),))
    assert len(github(odd).replace("\r", "\n").split("\n")) == 2
    json.loads(sarif(odd))
    ET.fromstring(junit(odd).encode())
