"""Every finding's stable code and title, and which are only warnings. The rulebook has the reasons and examples."""

from collections.abc import Mapping

CODES: Mapping[str, str] = {
    "TS101": "not valid YAML",
    "TS102": "a key stands twice in one mapping",
    "TS103": "an alias, anchor, tag or merge key is used",
    "TS104": "not UTF-8 text",
    "TS105": "too large or nested too deeply",
    "TS106": "a tab is used for indentation",
    "TS107": "a merge-conflict marker is left",
    "TS108": "more than one document in a file",
    "TS109": "an empty file, or a null value",
    "TS201": "an unknown key",
    "TS202": "a required key is missing",
    "TS203": "a value of the wrong type",
    "TS204": "a value of the wrong form or out of range",
    "TS301": "an agent's name stands twice in the fleet",
    "TS302": "a queue is served by two pools",
    "TS303": "a pool's name stands twice in the fleet",
    "TS304": "an agent's recipe is not in the repo",
    "TS305": "an unknown runtime",
    "TS306": "a file that does not belong in pools/",
    "TS307": "not a plain file (a link or a submodule)",
    "TS308": "not a fleet repo",
    "TS309": "names that differ only by case",
    "TS310": "a recipe nobody uses",
    "TS311": "a limit above the pool's or the fleet's cap",
    "TS312": "kind Limits outside pools/limits.yaml, or another kind in it",
    "TS313": "a path that leaves recipes/",
    "TS314": "a literal that looks like a credential",
    "TS315": "a drain deadline shorter than a run may take, under wait",
    "TS316": "a pool that can never run anything",
    "TS401": "an undeclared template variable",
    "TS402": "a parameter that nothing uses",
    "TS403": "a required parameter that is never supplied",
    "TS404": "an optional parameter without a default",
    "TS405": "a sub-recipe that is not in the repo",
    "TS406": "a template that can't be read",
    "TS407": "a recipe without a prompt",
    "TS408": "a file parameter with a default, or a select without options",
    "TS501": "a program that is not on this machine",
    "TS502": "a variable that agents would not get",
}

# These do not reject a revision; `validate --strict` fails on them.
WARNINGS = frozenset({"TS310", "TS311", "TS315", "TS316"})
