"""An edit changes the lines that it must, to the letter, or says why it can't."""

import difflib
import re
from collections.abc import Callable, Mapping
from copy import deepcopy
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.test_fix import pools, value
from tsched.gitops.edit import (
    add_agent,
    get_agent,
    new_pool,
    remove_agent,
    set_agent,
    set_pool,
    unset_pool,
)
from tsched.gitops.rewrite import Setting
from tsched.model.errors import ConfigurationError
from tsched.validate.fix import EditRefused, fix, same

HEAD = "# licence ünï 🎉\nkind: Pool # what\n\n"
BLOCK = HEAD + (
    "agents: # the team\n  # of vaela\n  - name: vaela # builds\n    # slots\n    limit: 3   # three\n"
    "\n  # of damien\n  - name: 'damien'\n    limit: 2\n    # - recipe: x\n  # - name: old\n# end\n"
)
MORE = "{name: zoe, limit: 1, recipe: a/b.yaml}"
FLOW = HEAD + "agents:\n- {name: vaela, limit: 3} # a\n- { name: damien }   # b\n"
INLINE = HEAD + "agents: [{name: vaela}, {name: damien, limit: 2}] # team\n"
TALL = HEAD + "agents: [\n  {name: vaela}, # a\n  {name: damien,\n   limit: 2},\n]\n"
Edit = Callable[[str], str]


def changed(before: str, after: str) -> list[str]:
    """The lines that went and came, byte for byte."""
    found = difflib.unified_diff(before.splitlines(keepends=True), after.splitlines(keepends=True), n=0)
    return [line for line in found if line[0] in "+-" and line[:3] not in ("+++", "---")]


def each_way(before: str, edit: Edit, want: list[str]) -> None:
    """The same lines change in every kind of file."""
    assert changed(before, edit(before)) == want
    crlf = before.replace("\n", "\r\n")
    assert changed(crlf, edit(crlf)) == [line.replace("\n", "\r\n") for line in want]
    assert edit("\ufeff" + before) == "\ufeff" + edit(before)
    assert edit(before.removesuffix("\n")) == edit(before).removesuffix("\n")
    if before.count("\n") > 1:  # else no line end tells
        assert edit(crlf.removesuffix("\r\n")) == edit(crlf).removesuffix("\r\n")


def test_the_first_line_end_is_the_files() -> None:
    assert add_agent("kind: Pool\r\nagents: []\n", name="a", fields={}) == "kind: Pool\r\nagents:\n  - name: a\r\n"


@pytest.mark.parametrize(
    ("before", "want"),
    [
        pytest.param(BLOCK, ["+\n", "+  - name: zoe\n", "+    limit: 1\n", "+    recipe: a/b.yaml\n"], id="block"),
        pytest.param(FLOW, ["+- {name: zoe, limit: 1, recipe: a/b.yaml}\n"], id="flow entries"),
        pytest.param(
            INLINE,
            [
                "-agents: [{name: vaela}, {name: damien, limit: 2}] # team\n",
                f"+agents: [{{name: vaela}}, {{name: damien, limit: 2}}, {MORE}] # team\n",
            ],
            id="flow list",
        ),
        pytest.param(TALL, ["+  {name: zoe, limit: 1, recipe: a/b.yaml},\n"], id="flow list, a line each"),
        pytest.param(
            HEAD + "agents:\n    -   name: a # x\n        # y\n    # z\n",
            ["+    -   name: zoe\n", "+        limit: 1\n", "+        recipe: a/b.yaml\n"],
            id="wide",
        ),
        pytest.param(
            HEAD + "agents:\n- name: a\n  limit: 2\n- name: b\n\n# end\n",
            ["+- name: zoe\n", "+  limit: 1\n", "+  recipe: a/b.yaml\n"],
            id="dash at 0",
        ),
        pytest.param(
            HEAD + "agents:\n  -\n    name: a\n",
            ["+  - name: zoe\n", "+    limit: 1\n", "+    recipe: a/b.yaml\n"],
            id="dash alone",
        ),
        pytest.param(
            HEAD + "agents:   [] # none\n# end\n",
            [
                "-agents:   [] # none\n",
                "+agents: # none\n",
                "+  - name: zoe\n",
                "+    limit: 1\n",
                "+    recipe: a/b.yaml\n",
            ],
            id="none",
        ),
        pytest.param(
            HEAD + "agents:\n# end\n", ["+  - name: zoe\n", "+    limit: 1\n", "+    recipe: a/b.yaml\n"], id="null"
        ),
        pytest.param(
            HEAD + "name: dev\n# end\n",
            ["+agents:\n", "+  - name: zoe\n", "+    limit: 1\n", "+    recipe: a/b.yaml\n"],
            id="no key",
        ),
        pytest.param(
            "  kind: Pool\n",
            ["+  agents:\n", "+    - name: zoe\n", "+      limit: 1\n", "+      recipe: a/b.yaml\n"],
            id="indented",
        ),
        pytest.param(
            "{kind: Pool}\n",
            ["-{kind: Pool}\n", "+{kind: Pool, agents: [{name: zoe, limit: 1, recipe: a/b.yaml}]}\n"],
            id="all flow",
        ),
        pytest.param(
            '{"agents": []}\n',
            ['-{"agents": []}\n', '+{"agents": [{name: zoe, limit: 1, recipe: a/b.yaml}]}\n'],
            id="all flow, none",
        ),
    ],
)
def test_an_agent_is_added(before: str, want: list[str]) -> None:
    fields: Mapping[str, str | int] = {"limit": 1, "recipe": "a/b.yaml"}
    if "null" in before or before.endswith("agents:\n# end\n"):
        assert changed(before, add_agent(before, name="zoe", fields=fields)) == want
        return
    each_way(before, lambda text: add_agent(text, name="zoe", fields=fields), want)


def test_a_comment_between_brackets_stays_in_its_line() -> None:
    text = "agents: [\n  {name: a} # c\n]\n"
    assert add_agent(text, name="b", fields={}) == "agents: [\n  {name: a}, {name: b} # c\n]\n"
    assert remove_agent(add_agent(text, name="b", fields={}), "b") == text


def test_a_document_end_stays_at_the_end() -> None:
    assert add_agent("kind: a\n...\n", name="a", fields={}) == "kind: a\nagents:\n  - name: a\n...\n"


VAELA = [
    "-  # of vaela\n", "-  - name: vaela # builds\n", "-    # slots\n", "-    limit: 3   # three\n", "-\n",
]  # fmt: skip
DAMIEN = ["-\n", "-  # of damien\n", "-  - name: 'damien'\n", "-    limit: 2\n", "-    # - recipe: x\n"]


@pytest.mark.parametrize(
    ("before", "name", "want"),
    [
        pytest.param(BLOCK, "vaela", VAELA, id="first"),
        pytest.param(BLOCK, "damien", DAMIEN, id="last"),
        pytest.param(FLOW, "vaela", ["-- {name: vaela, limit: 3} # a\n"], id="flow"),
        pytest.param(
            INLINE,
            "vaela",
            [
                "-agents: [{name: vaela}, {name: damien, limit: 2}] # team\n",
                "+agents: [{name: damien, limit: 2}] # team\n",
            ],
            id="flow list, first",
        ),
        pytest.param(
            INLINE,
            "damien",
            ["-agents: [{name: vaela}, {name: damien, limit: 2}] # team\n", "+agents: [{name: vaela}] # team\n"],
            id="flow list, last",
        ),
        pytest.param(
            HEAD + "agents: # team\n  # of a\n  - name: a\n    # in a\n    limit: 1\n  # rest\n# end\n",
            "a",
            [
                "-agents: # team\n", "-  # of a\n", "-  - name: a\n", "-    # in a\n", "-    limit: 1\n",
                "+agents: [] # team\n",
            ],
            id="the only one",
        ),
        pytest.param(
            "agents: [ {name: a}, ] # t\n",
            "a",
            ["-agents: [ {name: a}, ] # t\n", "+agents: [] # t\n"],
            id="the only one of a flow list",
        ),
        pytest.param(
            "agents:\n-\n  # c\n  name: a\n- name: b\n", "a", ["--\n", "-  # c\n", "-  name: a\n"], id="dash alone"
        ),
        pytest.param(
            "agents:\n- name: a\n\n# b\n- name: b\n\n- name: c\n", "b", ["-# b\n", "-- name: b\n", "-\n"], id="middle"
        ),
        pytest.param(
            "agents:\n- name: a\n- name: b\n\n- name: c\n", "b", ["-- name: b\n"], id="a blank line on one side"
        ),
    ],
)  # fmt: skip
def test_an_agent_is_removed(before: str, name: str, want: list[str]) -> None:
    each_way(before, lambda text: remove_agent(text, name), want)


@pytest.mark.parametrize(
    ("before", "agent", "key", "given_", "want"),
    [
        pytest.param(BLOCK, "vaela", "limit", 5, ["-    limit: 3   # three\n", "+    limit: 5   # three\n"], id="1"),
        pytest.param(BLOCK, "vaela", "limit", 3, [], id="the same"),
        pytest.param(BLOCK, "vaela", "runtime", "codex", ["+    runtime: codex\n"], id="new"),
        pytest.param(BLOCK, "damien", "recipe", "on", ['+    recipe: "on"\n'], id="new, quoted"),
        pytest.param(BLOCK, "damien", "name", "o'k", ["-  - name: 'damien'\n", "+  - name: 'o''k'\n"], id="kept"),
        pytest.param(BLOCK, "damien", "name", "a\tb", ["-  - name: 'damien'\n", '+  - name: "a\\tb"\n'], id="fit"),
        pytest.param(BLOCK, "damien", "limit", True, ["-    limit: 2\n", "+    limit: true\n"], id="types"),
        pytest.param(
            FLOW,
            "vaela",
            "limit",
            5,
            ["-- {name: vaela, limit: 3} # a\n", "+- {name: vaela, limit: 5} # a\n"],
            id="flow",
        ),
        pytest.param(
            FLOW,
            "damien",
            "limit",
            5,
            ["-- { name: damien }   # b\n", "+- { name: damien, limit: 5 }   # b\n"],
            id="flow, new",
        ),
        pytest.param(
            TALL, "damien", "limit", 5, ["-   limit: 2},\n", "+   limit: 5},\n"], id="flow list, a line each"
        ),
        pytest.param(
            "agents:\n- limit:   # none\n  name: a # n\n  # of r\n  recipe: b\n",
            "a",
            "limit",
            1,
            ["-- limit:   # none\n", "+- limit: 1   # none\n"],
            id="null",
        ),
        pytest.param(
            "agents:\n- limit: 1\n  name: a # n\n  # of r\n  recipe: b\n",
            "a",
            "runtime",
            "x",
            ["+  runtime: x\n"],
            id="behind the name",
        ),
        pytest.param(
            'agents:\n- name: a\n  recipe:\n    "b" # r\n',
            "a",
            "recipe",
            "c",
            ['-    "b" # r\n', '+    "c" # r\n'], id="below"
        ),
    ],
)  # fmt: skip
def test_an_agents_setting_is_set(before: str, agent: str, key: str, given_: str | int, want: list[str]) -> None:
    each_way(before, lambda text: set_agent(text, agent, key, given_), want)


def test_a_new_setting_stands_directly_behind_the_name() -> None:
    assert "name: vaela # builds\n    runtime: codex\n    # slots" in set_agent(BLOCK, "vaela", "runtime", "codex")


UNTIL: Mapping[str, Setting] = {"until": "2026-12-01T08:00:00Z", "reason": "a freeze: cold"}
WRITTEN = '{until: "2026-12-01T08:00:00Z", reason: "a freeze: cold"}'


@pytest.mark.parametrize(
    ("before", "key", "given_", "want"),
    [
        pytest.param(BLOCK, "suspend", UNTIL, [f"+suspend: {WRITTEN}\n"], id="new"),
        pytest.param(HEAD + "name: a", "suspend", True, None, id="no agents"),
        pytest.param(
            "suspend: true # why\nagents: []\n",
            "suspend",
            UNTIL,
            ["-suspend: true # why\n", f"+suspend: {WRITTEN} # why\n"],
            id="from a scalar",
        ),
        pytest.param(
            "suspend: {until: x,\n reason: y} # why\nagents: []\n",
            "suspend",
            False,
            ["-suspend: {until: x,\n", "- reason: y} # why\n", "+suspend: false # why\n"],
            id="from a flow mapping",
        ),
        pytest.param(
            "suspend: # why\n  until: x # u\n  # deeper\n# of agents\nagents: []\n",
            "suspend",
            UNTIL,
            ["-suspend: # why\n", "-  until: x # u\n", "-  # deeper\n", f"+suspend: {WRITTEN} # why\n"],
            id="from a block mapping",
        ),
        pytest.param("agents: []\n", "queue", "off", ['+queue: "off"\n'], id="agents first"),
        pytest.param(
            "{kind: Pool, agents: []}\n",
            "max_running",
            0,
            ["-{kind: Pool, agents: []}\n", "+{kind: Pool, max_running: 0, agents: []}\n"],
            id="all flow",
        ),
        pytest.param(
            "{agents: []}\n",
            "queue",
            "a",
            ["-{agents: []}\n", "+{queue: a, agents: []}\n"], id="all flow, agents first"
        ),
        pytest.param(
            "name: a\n# note\n\n# team\nagents: []\n",
            "x",
            [1, "y", {"z": 1.5}], ['+x: [1, "y", {z: 1.5}]\n'], id="list"
        ),
    ],
)  # fmt: skip
def test_a_pools_setting_is_set(before: str, key: str, given_: Setting, want: list[str] | None) -> None:
    if want is None:
        assert set_pool(before, key, given_) == before + "\nsuspend: true"
        return
    each_way(before, lambda text: set_pool(text, key, given_), want)
    assert set_pool(set_pool(before, key, given_), key, given_) == set_pool(before, key, given_)


def test_a_new_setting_stands_below_the_others_and_above_the_agents_comments() -> None:
    text = "kind: Pool\n\n# team\nagents: []\n"
    assert set_pool(text, "queue", "a") == "kind: Pool\nqueue: a\n\n# team\nagents: []\n"
    assert set_pool("# top\n\n# team\nagents: []\n", "x", 1) == "# top\n\nx: 1\n# team\nagents: []\n"


@pytest.mark.parametrize(
    ("before", "key", "want"),
    [
        ("# top\nkind: a\nqueue: b # c\nagents: []\n", "queue", ["-queue: b # c\n"]),
        ("# top\nkind: a\n# of q\nqueue: b\n  # deeper\n", "queue", ["-# of q\n", "-queue: b\n", "-  # deeper\n"]),
        ("# top\nkind: a\nqueue: b\n", "kind", ["-kind: a\n"]),
        ("kind: a\ndrain:\n  # x\n  deadline: 1h\n# end\n", "drain", ["-drain:\n", "-  # x\n", "-  deadline: 1h\n"]),
        ("kind: a\ndrain: 1\n", "drain", ["-drain: 1\n"]),
        ("{kind: a, queue: b} # c\n", "queue", ["-{kind: a, queue: b} # c\n", "+{kind: a} # c\n"]),
        ("{kind: a, queue: b} # c\n", "kind", ["-{kind: a, queue: b} # c\n", "+{queue: b} # c\n"]),
    ],
)  # fmt: skip
def test_a_pools_setting_is_taken_out(before: str, key: str, want: list[str]) -> None:
    each_way(before, lambda text: unset_pool(text, key), want)


def test_a_new_pool() -> None:
    head = "# yaml-language-server: $schema=../schemas/pool.schema.json\napiVersion: tsched/v1\nkind: Pool\n"
    assert new_pool("dev") == head + "name: dev\nagents: []\n"
    assert new_pool("no", queue="1", runtime="x") == head + 'name: "no"\nqueue: "1"\nruntime: x\nagents: []\n'
    assert fix("pools/dev.yaml", new_pool("no", queue="1", runtime="x")).changes == ()


def test_an_agent_is_read() -> None:
    assert get_agent(BLOCK, "vaela") == {"name": "vaela", "limit": 3}
    assert get_agent("\ufeff" + TALL.replace("\n", "\r\n"), "damien") == {"name": "damien", "limit": 2}


@pytest.mark.parametrize(
    ("edit", "words"),
    [
        (lambda: add_agent(BLOCK, name="vaela", fields={}), "'vaela' is in this pool file already. Use another"),
        (lambda: add_agent(BLOCK, name="zoe", fields={"name": "x"}), "given twice. Leave it out"),
        (lambda: add_agent(BLOCK, name="zoe", fields={"limit": None}), "None can't stand .* Give text"),  # type: ignore[dict-item]
        (lambda: add_agent("agents: {a: 1}", name="zoe", fields={}), "no list of mappings. Write"),
        (lambda: add_agent("agents: [a]", name="zoe", fields={}), "no list of mappings. Write"),
        (lambda: add_agent("agents: [ # c\n]", name="zoe", fields={}), "comment stands between .* Move it"),
        (lambda: add_agent("agents:\n- name: a\n  text: |\n    b", name="zoe", fields={}), "unusually .* by hand"),
        (lambda: add_agent("kind: [", name="zoe", fields={}), "can't be read, at line 1: This is not YAML"),
        (lambda: add_agent("a: &b 1", name="zoe", fields={}), "An anchor or alias is used. Write the value out"),
        (lambda: add_agent("- a", name="zoe", fields={}), "no mapping. Write"),
        (lambda: add_agent("", name="zoe", fields={}), "The file is empty"),
        (lambda: add_agent(BLOCK, name="\ud800", fields={}), "unusually"),
        (lambda: remove_agent(BLOCK, "veala"), "no agent 'veala' in this pool file. Did you mean 'vaela'"),
        (lambda: remove_agent(BLOCK, "zzz"), "There are: vaela, damien"),
        (lambda: remove_agent("agents: [{limit: 1}]", "None"), "There are: none"),
        (lambda: remove_agent(TALL, "vaela"), "comment stands between"),
        (lambda: remove_agent(TALL, "damien"), "comment stands between"),
        (lambda: set_agent(BLOCK, "zzz", "limit", 1), "no agent 'zzz'"),
        (lambda: set_agent(BLOCK, "vaela", "name", "damien"), "'damien' is in this pool file already"),
        (lambda: set_agent("agents: [name: a]", "a", "limit", 1), "unusually"),
        (
            lambda: set_agent("agents:\n- name: a\n  x: |\n    b\n", "a", "x", "c"),
            "block of text. Write it on one line",
        ),
        (lambda: get_agent(BLOCK, "zzz"), "no agent 'zzz'"),
        (lambda: set_pool(BLOCK, "agents", []), "one by one"),
        (lambda: set_pool(BLOCK, "queue", None), "None can't stand"),  # type: ignore[arg-type]
        (lambda: set_pool(BLOCK, "queue", object()), "can't stand"),  # type: ignore[arg-type]
        (lambda: unset_pool(BLOCK, "agents"), "one by one"),
        (lambda: unset_pool(BLOCK, "queue"), "no key 'queue' in this pool file. There are: kind, agents"),
        (lambda: unset_pool("kind: a\n", "kind"), "unusually"),
    ],
)
def test_what_is_wrong_is_said(edit: Callable[[], object], words: str) -> None:
    with pytest.raises(ConfigurationError, match=words) as caught:
        edit()
    assert ("unusually" in words or "comment" in words or "block of" in words) == isinstance(
        caught.value, EditRefused
    )
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("word", "written"),
    [
        ("a b.yaml", "a b.yaml"), ("é/ü", "é/ü"), ("50%", "50%"), ("https://x:8/y", "https://x:8/y"), ("a:b", "a:b"),
        ("-1h", '"-1h"'), ("on", '"on"'), ("1:30", '"1:30"'), ("017", '"017"'), ("", '""'), ("~", '"~"'),
        (" a", '" a"'),
        ("a: b", '"a: b"'), ("a #b", '"a #b"'), ("a\nb", '"a\\nb"'), ('"\\', '"\\"\\\\"'), ("{a}", '"{a}"'),
        ("...", '"..."'),
        ("\x7f\u2028\U000e0001🎉", '"\\u007f\\u2028\\U000e0001🎉"'), ("null", '"null"'), ("9" * 50, f'"{"9" * 50}"'),
        (7, "7"), (-1, "-1"), (True, "true"), (1e16, "1e+16"), (float("inf"), ".inf"), ([], "[]"), ({}, "{}"),
        ({"on": "off", "a b": ["1"]}, '{"on": "off", a b: ["1"]}'),
    ],
)  # fmt: skip
def test_words_are_quoted_where_they_need_it(word: Setting, written: str) -> None:
    assert set_pool("kind: a\n", "x", word) == f"kind: a\nx: {written}\n"


settings = st.recursive(
    st.text(max_size=8) | st.integers() | st.booleans() | st.floats(),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=4), inner, max_size=2),
    max_leaves=4,
)
texts = pools().filter(lambda text: not re.search(r"(text: \||folded: >).*\Z", text.rstrip("\r\n")[-60:], re.DOTALL))


@given(settings)
def test_any_value_comes_back(given_: Any) -> None:
    after = set_pool(BLOCK, "x", given_)
    found: Any = value(after)
    assert same(found["x"], given_)
    assert unset_pool(after, "x") == BLOCK


@given(texts, st.integers(0, 5), st.text(max_size=5))
def test_adding_and_removing_an_agent_gives_the_same_text(text: str, limit: int, recipe: str) -> None:
    before: Any = value(text.removeprefix("\ufeff"))
    after = add_agent(text, name="zoe", fields={"limit": limit, "recipe": recipe})
    found: Any = value(after.removeprefix("\ufeff"))
    entry = {"name": "zoe", "limit": limit, "recipe": recipe}
    assert same(found, {**before, "agents": [*(before.get("agents") or []), entry]})
    assert {line[0] for line in changed(text, after)} == {"+"} or "[" in text or not text.endswith("\n")
    if before.get("agents") is not None:
        assert remove_agent(after, "zoe") == text


@given(texts, st.data())
def test_only_the_agents_own_lines_change(text: str, data: st.DataObject) -> None:
    before: Any = value(text.removeprefix("\ufeff"))
    names = [one["name"] for one in before.get("agents") or []]
    if not names:
        return
    name = data.draw(st.sampled_from(names))
    key = data.draw(st.sampled_from(("limit", "recipe", "runtime", "new")))
    after = set_agent(text, name, key, 77)
    expected = deepcopy(before)
    expected["agents"][names.index(name)][key] = 77
    assert same(value(after.removeprefix("\ufeff")), expected)
    assert len(changed(text, after)) <= 3  # the line before gets a comma or an end
    others = [one for one in names if one != name]
    assert [get_agent(after, one) for one in others] == [get_agent(text, one) for one in others]
    gone, rest = remove_agent(text, name), remove_agent(after, name)
    assert gone == rest


@given(texts, st.sampled_from(("zz", "suspend", "drain", "queue")), settings)
def test_setting_and_unsetting_gives_the_same_text(text: str, key: str, given_: Any) -> None:
    before: Any = value(text.removeprefix("\ufeff"))
    after = set_pool(text, key, given_)
    assert same(value(after.removeprefix("\ufeff")), {**before, key: given_})
    if key not in before and len(before) > len({"agents"} & set(before)):
        assert unset_pool(after, key) == text
