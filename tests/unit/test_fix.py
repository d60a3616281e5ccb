"""`fix` mends what it should and touches nothing else."""

import re
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from tsched.validate.fix import DEPRECATED, EditRefused, ambiguous, fix, proven, same
from tsched.validate.schema import schema_of
from tsched.validate.source import Value, parse

MODELINE = "# yaml-language-server: $schema=../schemas/pool.schema.json\n"
LIMITS = MODELINE.replace("pool.", "limits.")
TOP = "apiVersion: tsched/v1\nkind: Pool\nname: dev\n"
NAMES = ("ada", "ben", "cy", "on", "1:30", "é-ü", "0o8")
COMMENTS = ("# note", "#", "# - name: old # limit: 2", "# ünï 🎉 'x \"", "# kind: Pool")
SETTINGS = (
    "apiVersion: tsched/v1", "kind: Pool", "name: dev", "queue: off", "agentType: dev", "max_running: 8",
    "suspend: {until: 2026-12-01T08:00:00Z, reason: y}",
    "drain:\n  deadline: 2h   # two\n  # deeper\n  on_deadline: 'fail'",
    'workspace: {repo: "https://x/y", \n  ref: main}', "max_runing: 017", "text: |\n  a  \n  # no comment\n\n  b ",
    "folded: >-\n  on\n  off", 'quoted: "a \\\n  b  \n  c"', "plain: 1_000\n  and more ",
    "empty:", "defaults: {limit: 2}",
)  # fmt: skip
FIELDS = ("limit: 2", "max_concurrent: 0x1F", "recipe: 'a.yaml'", "recipe_file: b.yaml", "runtime: no", "odd: [y, 1]")
RENAMES = {"agentType": "queue", "agentName": "name", "max_concurrent": "limit", "recipe_file": "recipe"}


def value(text: str) -> Value:
    source = parse("x", text.encode())
    assert not source.problems, (text, source.problems)
    return source.value


@st.composite
def remarks(draw: st.DrawFn, indent: int) -> list[str]:
    """Comment lines, mostly at a column, and blank lines."""
    blank = draw(st.lists(st.just(""), max_size=1))
    shift = draw(st.sampled_from((0, 0, 0, 2, -2)))
    found = draw(st.lists(st.sampled_from(COMMENTS), max_size=2))
    return blank + [" " * max(indent + shift, 0) + one for one in found] + draw(st.lists(st.just(""), max_size=1))


@st.composite
def entries(draw: st.DrawFn, name: str, dash: int, gap: int) -> list[str]:
    """One agent's lines."""
    pairs = draw(
        st.permutations([f"name: {name}", *draw(st.lists(st.sampled_from(FIELDS), unique=True, max_size=4))])
    )
    style = draw(st.sampled_from(("block", "block", "alone", "flow", "long")))
    lead = " " * dash + "-" + " " * (gap - 1)
    if style in ("flow", "long"):
        sep = ", " if style == "flow" else ",\n" + " " * (dash + gap + 1)
        tail = draw(st.sampled_from(("", " # tail")))
        return (lead + "{" + sep.join(pairs) + "}" + tail).split("\n")
    found = [" " * dash + "-" + draw(st.sampled_from(("", " # alone")))] if style == "alone" else []
    for index, pair in enumerate(pairs):
        found += draw(remarks(dash + gap)) if index else []
        tail = draw(st.sampled_from(("", "", " # tail", "  ")))
        found.append((lead if style == "block" and not index else " " * (dash + gap)) + pair + tail)
    return found


@st.composite
def pools(draw: st.DrawFn) -> str:
    """Pool files in every style that people write."""
    chosen = draw(st.permutations(draw(st.lists(st.sampled_from(SETTINGS), unique=True, min_size=1, max_size=7))))
    found = draw(remarks(0))
    if draw(st.booleans()):
        found += [MODELINE[:-1], *draw(remarks(0))]
    found += ["---"] if draw(st.integers(0, 5)) == 0 else []
    place = draw(st.integers(0, len(chosen)))
    for index in range(len(chosen) + 1):
        if index == place:
            found += draw(agent_lists())
        if index < len(chosen):
            ends = chosen[index].split("\n", 1)[0][-1] in "|>-"
            tail = "" if "\n" in chosen[index] or ends else draw(st.sampled_from(("", " # tail", " ")))
            found += [*draw(remarks(0)), *(chosen[index] + tail).split("\n")]
    found += draw(remarks(0))
    eol = draw(st.sampled_from(("\n", "\r\n")))
    text = draw(st.sampled_from(("", "\ufeff"))) + eol.join(found) + draw(st.sampled_from(("", eol)))
    return text


@st.composite
def agent_lists(draw: st.DrawFn) -> list[str]:
    """`agents:`, or nothing."""
    names = draw(st.lists(st.sampled_from(NAMES), unique=True, max_size=3))
    tail = draw(st.sampled_from(("", " # the team")))
    if not names:
        return draw(st.sampled_from(([], ["agents: []" + tail])))
    if draw(st.integers(0, 4)) == 0:
        sep = draw(st.sampled_from((", ", ",\n  ")))
        inner = sep.join(f'{{"name": "{name}", limit: 1}}' for name in names)
        return f"agents: [{inner}]{tail}".split("\n")
    dash, gap = draw(st.sampled_from((0, 2, 4))), draw(st.sampled_from((2, 2, 4)))
    found = ["agents:" + tail]
    apart = draw(st.booleans())
    for index, name in enumerate(names):
        found += [""] if apart and index else draw(remarks(dash))
        found += draw(entries(name, dash, gap))
    return found


def renamed(given: Value) -> Value:
    """The value that deprecated keys stand for, as the brief has it: a second opinion."""
    assert isinstance(given, dict)
    found = dict(given)
    if "agentType" in found and "queue" not in found:
        found["queue"] = found.pop("agentType")
    listed: list[Value] = []
    entries: Any = found.get("agents") or []
    for one in entries:
        entry = dict(one)
        for old, new in RENAMES.items():
            if old != "agentType" and old in entry and new not in entry:
                entry[new] = entry.pop(old)
        listed.append(entry)
    return found | ({"agents": listed} if "agents" in found else {})


@given(pools())
def test_fixing_twice_is_fixing_once_and_the_meaning_stays(text: str) -> None:
    once = fix("pools/dev.yaml", text)
    assert same(value(once.text), renamed(value(text)))
    assert fix("pools/dev.yaml", once.text).text == once.text
    assert not fix("pools/dev.yaml", once.text).changes
    assert (once.text == text) == (not once.changes)
    assert once.text.startswith("\ufeff") == text.startswith("\ufeff")


@given(pools())
def test_no_comment_or_line_is_lost(text: str) -> None:
    def bag(given: str) -> list[str]:
        for old, new in RENAMES.items():
            given = given.replace(old, new)
        return sorted(given.removeprefix("\ufeff").replace("- ", "  ").replace('"', "").split())

    after = fix("pools/dev.yaml", text).text
    modeline = [] if "yaml-language-server" in text else MODELINE.split()
    assert bag(after) == sorted(bag(text) + modeline)
    ends = set(re.findall(r"\r?\n", text)) or {"\n"}
    assert set(re.findall(r"\r?\n", after)) <= ends


@given(pools())
def test_fixed_keys_are_in_order_and_words_read_alike(text: str) -> None:
    after = fix("pools/dev.yaml", text).text
    known = list(schema_of("pool")["properties"])
    found = value(after)
    assert isinstance(found, dict)
    if not re.search(r"text: \||folded: >", text):  # these may not become the last
        ranks = [known.index(key) if key in known else len(known) - 1.5 for key in found]
        assert ranks == sorted(ranks, key=lambda rank: (rank == known.index("agents"), rank))
    loose = yaml.load(after.replace("017", "0").replace("2h", "h"), Loader=yaml.SafeLoader)
    strict = value(after.replace("017", "0").replace("2h", "h"))
    assert same(loose, strict)


@pytest.mark.parametrize(
    ("path", "line"),
    [
        ("pools/dev.yaml", "../schemas/pool.schema.json"),
        ("pools/limits.yaml", "../schemas/limits.schema.json"),
        ("recipes/a.yaml", "../schemas/recipe.schema.json"),
        ("recipes/a/b/c.yaml", "../../../schemas/recipe.schema.json"),
    ],
)
@pytest.mark.parametrize("mark", ["", "\ufeff"])
@pytest.mark.parametrize("eol", ["\n", "\r\n"])
def test_the_schema_line_is_added_on_top(path: str, line: str, mark: str, eol: str) -> None:
    found = fix(path, f"{mark}# licence{eol}name: a{eol}")
    assert found.text == f"{mark}# yaml-language-server: $schema={line}{eol}# licence{eol}name: a{eol}"
    assert found.changes == ("line 1: added the schema's line",)
    assert fix(path, found.text).changes == ()


@pytest.mark.parametrize(
    "path", ["recipes/a.json", "pools/README.md", "pools/a.yml", "pools/sub/a.yaml", "docs/a.yaml", "a.yaml"]
)
def test_other_files_get_no_schema_line(path: str) -> None:
    assert fix(path, '{"a": 1}\n').text == '{"a": 1}\n'


def test_a_schema_line_below_the_licence_or_of_ones_own_stays() -> None:
    head = "# licence\n\n#yaml-language-server:  $schema=/mine.json\n"
    assert fix("pools/a.yaml", head + "kind: Pool\n").text == head + "kind: Pool\n"
    assert fix("pools/a.yaml", head + "name: a\nkind: Pool\n").text == head + "kind: Pool\nname: a\n"


def test_a_json_recipe_is_trimmed_and_ended() -> None:
    assert fix("recipes/a.json", '{\t \n"a": 1}').text == '{\n"a": 1}\n'


@pytest.mark.parametrize(
    ("before", "after"),
    [
        pytest.param("name: a\nkind: Pool\n", "kind: Pool\nname: a\n", id="plain"),
        pytest.param(
            "# top\nname: a # n\n# about kind\n# two\nkind: Pool # k\n",
            "# top\n# about kind\n# two\nkind: Pool # k\nname: a # n\n",
            id="comments go along, the file's stay",
        ),
        pytest.param(
            "# licence\n\n# about name\nname: a\nkind: Pool\n",
            "# licence\n\nkind: Pool\n# about name\nname: a\n",
            id="the first key's own comment",
        ),
        pytest.param(
            "name: a\n\n# team\nagents:\n  - name: b\n  # - name: c\nkind: Pool\n# end\n",
            "kind: Pool\nname: a\n\n# team\nagents:\n  - name: b\n  # - name: c\n# end\n",
            id="agents last, the end stays",
        ),
        pytest.param(
            "agents: []\nmystery: 1\ndrain:\n  # why\n  deadline: 1h\n  # deeper\nkind: Pool",
            "kind: Pool\ndrain:\n  # why\n  deadline: 1h\n  # deeper\nmystery: 1\nagents: []\n",
            id="unknown keys before agents",
        ),
        pytest.param(
            "name: a\nx: |\n  t\nqueue: a\n\n  # deep\nkind: b\nagents: []\n",
            "kind: b\nname: a\nqueue: a\n\n  # deep\nx: |\n  t\nagents: []\n",
            id="a deeper comment stays where it is",
        ),
        pytest.param("{name: a, kind: Pool}\n", "{name: a, kind: Pool}\n", id="flow"),
        pytest.param("  name: a\r\n  kind: Pool\r\n", "  kind: Pool\r\n  name: a\r\n", id="indented, CRLF"),
        pytest.param("x: |\n  t\nkind: b\n\n  # c\n", "x: |\n  t\nkind: b\n\n  # c\n", id="block scalar last"),
        pytest.param(
            "name: a\nx: |\n  t\n\n  # t\n# c\nkind: b\nagents: []\n",
            "# c\nkind: b\nname: a\nx: |\n  t\n\n  # t\nagents: []\n",
            id="what looks like a comment",
        ),
        pytest.param("agents: []\nx: |+\n  t\n\nkind: b\n", "kind: b\nx: |+\n  t\n\nagents: []\n", id="block scalar"),
        pytest.param("---\nname: a\nkind: b\n...\n", "---\nkind: b\nname: a\n...\n", id="marks of the document"),
        pytest.param('"name": a\n"kind": b\n', '"kind": b\n"name": a\n', id="quoted keys"),
    ],
)
def test_keys_of_the_file_are_put_in_order(before: str, after: str) -> None:
    assert fix("pools/a.yaml", MODELINE + before).text == MODELINE + after
    assert fix("pools/a.yaml", MODELINE + after).changes == ()


def test_limits_have_an_order_of_their_own() -> None:
    text = "guard: {max_agents_removed: 2}\nheartbeat: 1s\napiVersion: tsched/v1\n"
    after = "apiVersion: tsched/v1\nheartbeat: 1s\nguard: {max_agents_removed: 2}\n"
    assert fix("pools/limits.yaml", LIMITS + text).text == LIMITS + after


@pytest.mark.parametrize(
    ("before", "after"),
    [
        pytest.param("- limit: 1 # l\n  name: a # n\n", "- name: a # n\n  limit: 1 # l\n", id="dash at 0"),
        pytest.param(
            "  # whole\n  - limit: 1\n    # about a\n    name: a\n    # rest\n",
            "  # whole\n  # about a\n  - name: a\n    limit: 1\n    # rest\n",
            id="a comment goes above the dash",
        ),
        pytest.param(
            "    -   recipe: a.yaml\n        # l\n        limit: 1\n        name: a\n",
            "    -   name: a\n        # l\n        limit: 1\n        recipe: a.yaml\n",
            id="wide",
        ),
        pytest.param("  -\n    limit: 1\n    name: a\n", "  -\n    name: a\n    limit: 1\n", id="dash alone"),
        pytest.param(
            "  - limit: 1\n\n    name: a\n\n  - name: b\n",
            "  - name: a\n    limit: 1\n\n\n  - name: b\n",
            id="a blank line goes with the key above",
        ),
        pytest.param("  - {limit: 1, name: a}\n", "  - {limit: 1, name: a}\n", id="flow"),
        pytest.param("  - name: z\n  - name: a\n", "  - name: z\n  - name: a\n", id="agents keep their order"),
    ],
)
@pytest.mark.parametrize("eol", ["\n", "\r\n"])
def test_keys_of_agents_are_put_in_order(before: str, after: str, eol: str) -> None:
    head = MODELINE + "kind: Pool\nagents:\n"
    assert fix("pools/a.yaml", (head + before).replace("\n", eol)).text == (head + after).replace("\n", eol)


OTHERWISE = (
    "yes", "No", "ON", "off", "y", "N", "0b11", "-0o17", "0o1_7", "-0x1f", "1_000", "017_7", "1:30", "1:30.5",
    "1_0.5", "2026-01-20", "2026-01-20T08:00:00Z", "=", "<<",
)  # fmt: skip
ALIKE = (
    "1", "017", "08", "0o17", "0x1F", "-1", "1.5", "1e3", ".5", ".inf", ".nan", "true", "False", "null", "~", "yess",
    "0o8", "1h", "50%", "2026", "1:x", "v1:30", "a", "nO", "'on'", '"1:30"', "12.3.4", "on off",
)  # fmt: skip


@pytest.mark.parametrize("word", OTHERWISE)
def test_text_that_older_readers_take_for_something_else_is_quoted(word: str) -> None:
    text = MODELINE + f"kind: {word} # c\nagents:\n  - {{name: a, runtime: [{word}, a]}}\n"
    found = fix("pools/a.yaml", text)
    assert found.text == text.replace(f": {word} #", f': "{word}" #').replace(f"[{word},", f'["{word}",')
    assert found.changes == (f"line 2: quoted `{word}`", f"line 4: quoted `{word}`")


@pytest.mark.parametrize("word", ALIKE)
def test_what_reads_alike_or_is_no_text_stays(word: str) -> None:
    text = MODELINE + f"kind: {word} # c\nagents:\n  - {{name: a, runtime: [{word}, a]}}\n"
    assert fix("pools/a.yaml", text).text == text


def test_a_key_is_quoted_too_and_a_recipe_never() -> None:
    assert fix("pools/limits.yaml", LIMITS + "runtimes: {on: {argv: [a]}, 1: b}\n").text == (
        LIMITS + 'runtimes: {"on": {argv: [a]}, 1: b}\n'
    )
    text = "# yaml-language-server: $schema=../schemas/recipe.schema.json\nversion: 1:30\ntitle: on\n"
    assert fix("recipes/a.yaml", text).text == text


@given(st.text("yYnNoOfFeEsStT0123456789_:.-+xob= ", min_size=1, max_size=6))
def test_words_left_plain_are_read_alike_by_a_reader_of_1_1(word: str) -> None:
    source = parse("x", word.encode())
    if source.problems or not isinstance(source.value, str) or ambiguous(source.value):
        return
    assert yaml.load(word, Loader=yaml.SafeLoader) == source.value


@pytest.mark.parametrize(
    ("before", "after", "change"),
    [
        ("agentType: dev # q\n", "queue: dev # q\n", "line 3: renamed `agentType` to `queue`"),
        ("'agentType': dev\n", "'queue': dev\n", "line 3: renamed `agentType` to `queue`"),
        ("agents:\n- agentName: a\n", "agents:\n- name: a\n", "line 4: renamed `agentName` to `name`"),
        (
            'agents:\n- {name: a, "max_concurrent": 3}\n',
            'agents:\n- {name: a, "limit": 3}\n',
            "line 4: renamed `max_concurrent` to `limit`",
        ),
        (
            "agents: [{recipe_file: a.yaml}]\n",
            "agents: [{recipe: a.yaml}]\n",
            "line 3: renamed `recipe_file` to `recipe`",
        ),
        ("queue: a\nagentType: dev\n", "queue: a\nagentType: dev\n", None),
        ("agents:\n- limit: 1\n  max_concurrent: 3\n", "agents:\n- limit: 1\n  max_concurrent: 3\n", None),
        ("agentName: a\nrecipe_file: b\n", "agentName: a\nrecipe_file: b\n", None),
        ("agents:\n- name: a\n  agentType: b\n", "agents:\n- name: a\n  agentType: b\n", None),
    ],
)
def test_old_keys_get_their_new_names(before: str, after: str, change: str | None) -> None:
    head = MODELINE + "kind: Pool\n"
    found = fix("pools/a.yaml", head + before)
    assert found.text == head + after
    assert found.changes == (() if change is None else (change,))


def test_new_names_are_known_to_the_schema() -> None:
    places = {"pool": schema_of("pool"), "agent": schema_of("pool")["properties"]["agents"]["items"]}
    for place, names in DEPRECATED.items():
        assert set(names.values()) <= set(places[place]["properties"])
        assert not set(names) & set(places[place]["properties"])


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("kind: Pool  \n \t\nname: a # c \t\n", "kind: Pool\n\nname: a # c\n"),
        ("kind: a \r\nname: b\r\n", "kind: a\r\nname: b\r\n"),
        ("kind: |  \n  a  \n  \nname: b \n", "kind: |\n  a  \n  \nname: b\n"),
        ("kind: >-\n  a  \n  b \n# c \n", "kind: >-\n  a  \n  b \n# c\n"),
        ('kind: "a  \n  b\\  \n  c"\n', 'kind: "a\n  b\\  \n  c"\n'),
        ("kind: a \n  b \n", "kind: a\n  b\n"),
        ("kind: a\u00a0\n", "kind: a\u00a0\n"),
        ("kind: a", "kind: a\n"),
        ("kind: a\r\nname: b", "kind: a\r\nname: b\r\n"),
        ("kind: |\n  a", "kind: |\n  a"),
        ("kind: |-\n  a", "kind: |-\n  a\n"),
        ("kind: a\n\n\n", "kind: a\n\n\n"),
    ],
)
def test_white_space_at_the_ends(before: str, after: str) -> None:
    for path in ("pools/a.yaml", "recipes/a.yaml"):
        head = MODELINE.replace("\n", "\r\n") if "\r" in before else MODELINE
        assert fix(path, head + before).text == head + after


@pytest.mark.parametrize(
    "text",
    ["", "# only\n", "name: a: b \n", "a: &x on\nb: *x\n", "a: on\n---\nb: on\n", "a: 1\na: on\n", "- on\n",
     "a: !x on \n", "on", "a:\n\tb: 1 \n", "a: \x07 \n", "a: \ud800 \n"],
)  # fmt: skip
def test_what_cannot_be_read_stays(text: str) -> None:
    assert fix("pools/a.yaml", text).text == text
    assert fix("pools/a.yaml", text).changes == ()


def test_changes_are_told_by_the_lines_before() -> None:
    text = "agents:\n  - max_concurrent: on \n    name: a\n\nkind: Pool"
    assert fix("pools/a.yaml", text).changes == (
        "line 2: renamed `max_concurrent` to `limit`",
        "line 2: removed trailing white space",
        "line 5: ended the last line",
        "line 2: quoted `on`",
        "line 2: put the agent's keys in order",
        "line 1: put the file's keys in order",
        "line 1: added the schema's line",
    )


def test_a_text_that_says_something_else_is_refused() -> None:
    assert proven("x", "a: 1", {"a": 1}) == "a: 1"
    for other in ("a: true", "a: 1.0", "a: '1'", "a: [", "a: 1\nb: 2", "a: 1\na: 1"):
        with pytest.raises(EditRefused, match="by hand"):
            proven("x", other, {"a": 1})
