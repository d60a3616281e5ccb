"""Claims kept as comments, for task servers that have no conditional claim (DESIGN section 4, "Claims").

A comment's first line says `tsched-claim RUN runner=… agent=… queue=… attempts=… runs=…` or `tsched-end RUN
attempts=… runs=… not_before=… left=…`; what follows is for people. Of the claims after the newest end the one of the
lowest comment id wins.
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import replace
from urllib.parse import quote, unquote

from tsched.model.records import dataclass
from tsched.model.task import Comment, Task, TaskStatus

_TAG = re.compile(r"\n\[tsched:([^\]\n]*)\]\s*\Z")
STORE = "store"  # the run of an end that stands in no comment: the served store's own figures
PARKED = "parked"  # the reserved agent name that a parked task is assigned to, where there is no such status
_WORDS = re.compile(r"(?:tsched-claim|tsched-end) (?P<run>[A-Za-z0-9_-]{1,64})(?P<rest>(?: [a-z_]+=\S*)*)\Z")


@dataclass(frozen=True, slots=True, kw_only=True)
class Remark:
    """A comment as a task server gives it; the source leaves out those of people who may not claim."""

    id: int
    text: str
    author: str = ""
    created_at: float = 0.0  # seconds since the epoch

    def shown(self) -> Comment:
        """As people see it."""
        text, tag = self.text, None
        if (found := _TAG.search(text)) is not None:
            text, tag = text[: found.start()], found[1]
        return Comment(author=self.author, text=text, created_at=self.created_at, tag=tag)


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """A run's word that it takes the task. `queue` and `agent` are as they will be while it works.

    `attempts` (charged) and `runs` are the task's figures so far, this run not counted.
    """

    run: str
    runner: str
    agent: str
    queue: str
    attempts: int = 0
    runs: int = 0

    def text(self) -> str:
        """The comment."""
        who = f"runner={_word(self.runner)} agent={_word(self.agent)} queue={_word(self.queue)}"
        return (
            f"tsched-claim {self.run} {who} attempts={self.attempts} runs={self.runs}\n{self.agent} takes this task."
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Left:
    """How the end of a run left its task: what must still be so for its figures to hold."""

    status: str
    assigned_to: str | None
    queue: str

    @classmethod
    def of(cls, task: Task) -> "Left":
        return cls(status=str(task.status), assigned_to=task.assigned_to, queue=task.queue)


@dataclass(frozen=True, slots=True, kw_only=True)
class End:
    """A run's word that its claim is over, and the task's figures from then on.

    `attempts` (charged) and `runs` count all so far; `not_before` is in seconds since the epoch.
    """

    run: str
    attempts: int = 0
    runs: int = 0
    not_before: float = 0.0
    left: Left

    def text(self, words: str = "") -> str:
        """The comment; `words` are for people."""
        left = f"{self.left.status}:{_word(self.left.assigned_to)}:{_word(self.left.queue)}"
        figures = f"attempts={self.attempts} runs={self.runs} not_before={self.not_before:.3f}"
        return f"tsched-end {self.run} {figures} left={left}\n{words}".rstrip()


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """What a task's comments come to: who holds it, and the newest end."""

    claim: Claim | None = None
    end: End | None = None

    def applied(self, task: Task) -> Task:
        """The task with what its comments say of it. An end's figures hold while the task is as that end left it."""
        if self.claim is not None:
            facts = self.claim
            return replace(
                task, claim_run=facts.run, claim_runner=facts.runner, attempts=facts.attempts, runs=facts.runs
            )
        if self.end is None or Left.of(task) != self.end.left:
            return task  # never tried, or a person reopened it or gave it to somebody: it begins anew
        return replace(task, attempts=self.end.attempts, runs=self.end.runs, not_before=self.end.not_before)


def standing(remarks: Iterable[Remark]) -> Standing:
    """Read a task's comments. Of the winner's several claims the newest holds.

    A runner never asks for a task that a living run of its own still names, so its older claims are dead.
    """
    claims: list[Claim] = []
    end: End | None = None
    for remark in sorted(remarks, key=lambda one: one.id):
        word = parse(remark.text)
        if isinstance(word, End):
            end, claims = word, []
        elif word is not None:
            claims.append(word)
    holder = next((one for one in reversed(claims) if one.runner == claims[0].runner), None)
    return Standing(claim=holder, end=end)


def parse(text: str) -> Claim | End | None:
    """What a comment's first line says; None where it is a remark like any other, or its figures are no figures."""
    first = text.split("\n", 1)[0].rstrip()
    match = _WORDS.match(first)
    if match is None:
        return None
    facts = dict(pair.split("=", 1) for pair in match["rest"].split())
    try:
        if first.startswith("tsched-claim "):
            return Claim(
                run=match["run"], runner=unquote(facts["runner"]), agent=unquote(facts["agent"]),
                queue=_given(facts["queue"]) or "",
                attempts=_count(facts.get("attempts", "0")), runs=_count(facts.get("runs", "0")),
            )  # fmt: skip
        status, assigned, queue = facts["left"].split(":")
        return End(
            run=match["run"], attempts=_count(facts["attempts"]), runs=_count(facts["runs"]),
            not_before=_moment(facts["not_before"]),
            left=Left(status=status, assigned_to=_given(assigned), queue=_given(queue) or ""),
        )  # fmt: skip
    except (KeyError, ValueError):
        return None


def _count(text: str) -> int:
    number = int(text)
    if not 0 <= number < 2**31:
        raise ValueError(text)
    return number


def _moment(text: str) -> float:
    number = float(text)
    if not 0 <= number < 2**40:  # also where it is no number
        raise ValueError(text)
    return number


def _word(text: str | None) -> str:
    """A name as one word: people's names of queues and agents may hold spaces and colons."""
    return quote(text, safe="") if text else "-"


def _given(text: str) -> str | None:
    return None if text == "-" else unquote(text)


def tagged(text: str, tag: str) -> str:
    """A remark of a run, marked so that it is found again, and never taken for a claim or an end."""
    return f"{text}\n[tsched:{tag}]"


def has_tag(remarks: Sequence[Remark], tag: str) -> bool:
    """Whether a remark with that tag is there already."""
    return any(remark.text.rstrip().endswith(f"[tsched:{tag}]") for remark in remarks)


def status_of(status: str, *, assigned_to: str | None, archived: bool) -> TaskStatus:
    """A status of a server that knows idle, working and complete only. Raises ValueError for one we don't know."""
    if archived:
        return TaskStatus.CANCELLED
    if status == "idle" and assigned_to == PARKED:
        return TaskStatus.PARKED
    return TaskStatus(status)
