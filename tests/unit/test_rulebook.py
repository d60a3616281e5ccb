"""Each rule's own examples: the bad one is found, the good one is not."""

from collections.abc import Mapping
from pathlib import Path

import pytest

from tsched.model.diagnostic import Diagnostic
from tsched.runner.needs import needs
from tsched.validate.codes import CODES
from tsched.validate.fleet import load_fleet
from tsched.validate.folder import read_folder
from tsched.validate.rulebook import Rule, rulebook

BASE = {
    "pools/dev.yaml": "apiVersion: tsched/v1\nkind: Pool\nname: dev\nagents: [{name: ada}]\n",
    "recipes/ada.yaml": "title: Ada\ndescription: Does it.\nprompt: Go.\n",
}


def found(root: Path, rule: Rule, files: Mapping[str, str], links: Mapping[str, str]) -> list[Diagnostic]:
    """Every finding about an example, laid over the base as real files."""
    for path, text in {**({} if rule.bare and not files else BASE), **files}.items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_text(text, encoding=rule.encoding)
    for path, target in links.items():
        (root / path).symlink_to(target)
    loaded = load_fleet(read_folder(root))
    host = needs(loaded.fleet, rule.host, ()) if rule.host and loaded.fleet is not None else ()
    return [*loaded.diagnostics, *host]


@pytest.mark.parametrize("code", CODES)
def test_the_bad_example_is_found_and_the_good_one_is_sound(code: str, tmp_path: Path) -> None:
    rule = rulebook()[code]
    bad, good = tmp_path / "bad", tmp_path / "good"
    wrong = found(bad, rule, rule.in_full(), rule.link)
    assert code in {one.code for one in wrong}, wrong
    assert {str(one.severity) for one in wrong if one.code == code} == {rule.severity}
    assert found(good, rule, rule.good, {}) == []
    assert rule.why.endswith(".")


def test_every_rule_is_in_the_rulebook_and_no_other() -> None:
    assert list(rulebook()) == list(CODES)
