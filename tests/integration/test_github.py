"""GitHub issues as a task source, over real HTTP against a server that keeps to GitHub's OpenAPI."""

from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.integration.forge_server import Fault, Seen
from tests.integration.github_server import APP, STRANGER, Issue, IssuesServer
from tests.integration.task_source_contract import TaskSourceContract, claim, race, retry
from tsched.model.errors import ConfigurationError, TransientError
from tsched.model.task import Comment, Settlement, Task, Verdict
from tsched.rest.access import Access, Limits
from tsched.tasks.claims import Claim, Remark, has_tag, parse, tagged
from tsched.tasks.commented import CommentedTasks
from tsched.tasks.github import GitHubIssues, issues_at
from tsched.tasks.github_comment import read, written
from tsched.tasks.ledger import Ledger

TOKEN = "ghp_s3cret"
OURS = ("tsched:working", "tsched:parked", "tsched:review")


@pytest.fixture
def server() -> Iterator[IssuesServer]:
    with closing(IssuesServer(TOKEN)) as one:
        yield one


@pytest.fixture
def source(server: IssuesServer, tmp_path: Path) -> Iterator[CommentedTasks]:
    with closing(issues_at(server.address, ledger=tmp_path / "ledger.db", token=TOKEN)) as one:
        yield one


@dataclass
class Tracker:
    """The issues as people use them. `lines`: what blocks an issue stands in its text."""

    server: IssuesServer
    source: CommentedTasks
    lines: bool = False

    def add(
        self, title: str, *, queue: str, assign: str | None = None, blocked_by: str | None = None, priority: int = 0
    ) -> Task:
        labels = [f"queue:{queue}", *([f"agent:{assign}"] if assign else []), f"priority:{priority}"]
        numbers = [int(blocked_by)] if blocked_by else []
        if self.lines and numbers:
            issue = self.server.add(*labels, title=title, body=f"Please.\r\n\r\n- Blocked by: #{blocked_by}\r\n")
        else:
            issue = self.server.add(*labels, title=title, blocked_by=numbers)
        return self.task(str(issue.number))

    def task(self, task_id: str) -> Task:
        return self.source.get([task_id])[task_id]

    def assign(self, task_id: str, agent: str | None) -> Task:
        return self._label(task_id, "agent:", agent)

    def move(self, task_id: str, queue: str) -> Task:
        self._fresh(task_id)
        return self._label(task_id, "queue:", queue)

    def complete(self, task_id: str) -> Task:
        return self._close(task_id, "completed")

    def cancel(self, task_id: str) -> Task:
        return self._close(task_id, "not_planned")

    def reopen(self, task_id: str) -> Task:
        self._fresh(task_id)
        self.issue(task_id).state, self.issue(task_id).state_reason = "open", "reopened"
        return self.task(task_id)

    def comments(self, task_id: str) -> Sequence[Comment]:
        texts = [read(str(one["body"])) for one in self.issue(task_id).comments]
        words = [text.rpartition("\n[tsched:")[0] for text in texts if parse(text) is None]
        return [Comment(author="robot", text=text, created_at=0) for text in words]

    def issue(self, task_id: str) -> Issue:
        return self.server.issues[int(task_id)]

    def _label(self, task_id: str, start: str, name: str | None) -> Task:
        issue = self.issue(task_id)
        issue.labels = [one for one in issue.labels if not one.startswith(start)]
        issue.labels += [f"{start}{name}"] if name else []
        return self.task(task_id)

    def _fresh(self, task_id: str) -> None:
        self._label(task_id, "agent:", None)
        self.issue(task_id).labels = [one for one in self.issue(task_id).labels if one not in OURS]

    def _close(self, task_id: str, reason: str) -> Task:
        self.issue(task_id).state, self.issue(task_id).state_reason = "closed", reason
        return self.task(task_id)


@pytest.fixture
def queue(server: IssuesServer, tmp_path: Path) -> Iterator[Tracker]:
    with closing(issues_at(server.address, ledger=tmp_path / "looker.db", token=TOKEN)) as looker:
        yield Tracker(server, looker)


class TestWithDependencies(TaskSourceContract):
    """What blocks an issue is set as GitHub's own dependency."""


class TestWithLines(TaskSourceContract):
    """What blocks an issue stands as a line in its text."""

    @pytest.fixture
    def queue(self, queue: Tracker) -> Tracker:
        queue.lines = True
        return queue


class TestForReview(TaskSourceContract):
    """A complete run's issue stays open."""

    @pytest.fixture
    def source(self, server: IssuesServer, tmp_path: Path) -> Iterator[CommentedTasks]:
        with closing(issues_at(server.address, ledger=tmp_path / "l.db", token=TOKEN, review=True)) as one:
            yield one

    def test_a_person_closes_it_or_sends_it_back(self, source: CommentedTasks, queue: Tracker) -> None:
        task = queue.add("t", queue="dev")
        claim(source, task)
        assert source.settle(task.id, "r1", Settlement(verdict=Verdict.COMPLETE))
        issue = queue.issue(task.id)
        assert (issue.state, set(issue.labels) & set(OURS)) == ("open", {"tsched:review"})
        assert source.waiting(queues=["dev"], agents=["ada"]) == []
        assert list(source.depths()) == []
        issue.labels.remove("tsched:review")
        (again,) = source.waiting(queues=["dev"], agents=["ada"])
        assert (again.id, again.assigned_to, again.attempts) == (task.id, "ada", 0)


# Which issues are tasks


def test_pull_requests_and_issues_without_our_labels_are_no_tasks(
    server: IssuesServer, source: CommentedTasks
) -> None:
    server.add("bug")
    server.add("queue:dev", pull_request=True)
    task = server.add("Queue:Dev", "bug", "PRIORITY: 7", "priority:x", title="Mend it", body="The gate.")
    (found,) = source.waiting(queues=["dev"], agents=["ada"])
    assert (found.id, found.title, found.description, found.priority, found.created_by) == (
        str(task.number), "Mend it", "The gate.", 7, "op",
    )  # fmt: skip
    assert source.get(["1", "2"]).keys() == {"1"}


def test_an_open_pull_request_blocks_too_and_several_are_named_in_a_line(
    server: IssuesServer, source: CommentedTasks
) -> None:
    pull, other = server.add(pull_request=True), server.add()
    server.add("queue:dev", body="blocked by #1, #2 and #99, #3, see also #4")
    (task,) = source.waiting(queues=["dev"], agents=[])
    assert (task.blocked, task.blocked_by) == (True, "1")
    pull.state = other.state = "closed"
    (task,) = source.waiting(queues=["dev"], agents=[])
    assert not task.blocked
    assert claim(source, task) is not None


def test_peoples_labels_stay_and_ours_go_when_the_task_is_done(server: IssuesServer, source: CommentedTasks) -> None:
    issue = server.add("bug", "Queue:dev", "priority:2", "help wanted")
    (task,) = source.waiting(queues=["dev"], agents=[])
    assert claim(source, task) is not None
    assert sorted(issue.labels) == ["Queue:dev", "agent:ada", "bug", "help wanted", "priority:2", "tsched:working"]
    assert source.settle(task.id, "r1", Settlement(verdict=Verdict.COMPLETE))
    assert sorted(issue.labels) == ["Queue:dev", "agent:ada", "bug", "help wanted", "priority:2"]
    assert (issue.state, issue.state_reason) == ("closed", "completed")


def test_an_issue_closed_under_its_run_is_left_without_our_labels(
    server: IssuesServer, source: CommentedTasks, queue: Tracker
) -> None:
    """A pull request that says `Fixes #1` closes it; a person who opens it again must find it idle."""
    task = queue.add("t", queue="dev")
    claim(source, task)
    queue.complete(task.id)
    assert source.settle(task.id, "r1", retry())
    assert not set(server.issues[1].labels) & set(OURS)
    server.issues[1].state = "open"
    (again,) = source.waiting(queues=["dev"], agents=["ada"])
    assert (again.assigned_to, again.attempts) == ("ada", 0)


def test_a_parked_issue_is_tried_again_once_its_label_is_off(
    server: IssuesServer, source: CommentedTasks, queue: Tracker
) -> None:
    task = queue.add("t", queue="dev")
    claim(source, task)
    assert source.settle(task.id, "r1", Settlement(verdict=Verdict.PARK))
    assert "take the label tsched:parked off" in str(server.issues[1].comments[-1]["body"])
    server.issues[1].labels.remove("tsched:parked")
    (again,) = source.waiting(queues=["dev"], agents=[])
    assert (again.attempts, again.runs, again.assigned_to) == (0, 0, None)


def test_a_name_too_long_for_a_label_is_said_before_anything_is_written(
    server: IssuesServer, source: CommentedTasks
) -> None:
    server.add("queue:dev")
    (task,) = source.waiting(queues=["dev"], agents=[])
    with pytest.raises(TransientError, match="give a shorter name"):
        claim(source, task, agent="a" * 45)
    assert claim(source, task, agent="a" * 44) is not None


def test_labels_are_made_once_and_where_they_can_not_be_it_is_said_before_a_claim(
    server: IssuesServer, source: CommentedTasks
) -> None:
    """Triage may set labels, not make them."""
    server.makes_labels = False
    server.add("queue:dev")
    for _ in range(2):
        source.held("me")
        (task,) = source.waiting(queues=["dev"], agents=[])
        with pytest.raises(TransientError, match=r"has no label agent:ada, .* make it by hand, or give that account"):
            claim(source, task)
    assert server.issues[1].comments == []
    server.labels |= {"agent:ada", "tsched:parked", "tsched:working"}
    source.held("me")
    (task,) = source.waiting(queues=["dev"], agents=[])
    assert claim(source, task) is not None
    assert server.asked("POST", "labels$") != []


@pytest.mark.parametrize("right", ["permissions", "read_only"])
def test_a_token_that_may_comment_but_not_label_is_found_out_before_it_comments(
    server: IssuesServer, source: CommentedTasks, right: str
) -> None:
    server.add("queue:dev")
    setattr(server, right, {"pull": True, "triage": False, "push": False} if right == "permissions" else True)
    for _ in range(2):
        source.held("me")
        (task,) = source.waiting(queues=["dev"], agents=[])
        with pytest.raises(TransientError, match="TSCHED_TASKS_TOKEN"):
            claim(source, task)
    assert server.issues[1].comments == []
    server.read_only, server.permissions = False, None  # an App's answer names none
    source.held("me")
    (task,) = source.waiting(queues=["dev"], agents=[])
    assert claim(source, task) is not None


def test_a_locked_issue_is_not_taken_and_holds_up_no_result(server: IssuesServer, source: CommentedTasks) -> None:
    server.app, server.me = True, APP
    server.add("queue:dev")
    (task,) = source.waiting(queues=["dev"], agents=[])
    assert claim(source, task) is not None
    server.issues[1].locked = True
    source.comment("1", author="tsched", text="failed", tag="r1")
    assert source.settle("1", "r1", retry())
    assert "tsched:working" not in server.issues[1].labels
    assert source.waiting(queues=["dev"], agents=[]) == []
    server.issues[1].locked = False
    (task,) = source.waiting(queues=["dev"], agents=[])
    assert claim(source, task, run="r2") is not None


def test_another_queue_given_during_a_run_does_not_undo_what_it_did(
    server: IssuesServer, source: CommentedTasks
) -> None:
    issue = server.add("queue:dev")
    (task,) = source.waiting(queues=["dev"], agents=[])
    claim(source, task)
    issue.labels = ["queue:qa" if one == "queue:dev" else one for one in issue.labels]
    assert source.settle("1", "r1", Settlement(verdict=Verdict.COMPLETE))
    assert (issue.state, set(issue.labels)) == ("closed", {"queue:qa", "agent:ada"})


def test_labels_that_can_be_no_names_are_like_any_other(server: IssuesServer, source: CommentedTasks) -> None:
    server.add("queue:tech debt", "agent:Bob Smith", "priority:high")
    issue = server.add("queue:tech debt", "agent:area:ui", "agent:ada")
    (task,) = source.waiting(queues=["tech debt"], agents=["ada"])
    assert (task.id, task.queue, task.assigned_to) == ("2", "", "ada")
    assert claim(source, task) is not None
    issue.labels.append("queue:dev")
    assert source.settle("2", "r1", retry(assigned_to="ada"))
    assert set(issue.labels) == {"queue:tech debt", "agent:area:ui", "agent:ada", "queue:dev"}
    assert source.get(["2"])["2"].claim_run is None


# Who may claim


def forged(run: str = "x1") -> str:
    return Claim(run=run, runner="evil", agent="mallory", queue="dev").text()


def test_a_strangers_comment_claims_nothing(server: IssuesServer, source: CommentedTasks) -> None:
    issue = server.add("queue:dev")
    server.say(1, forged(), STRANGER)
    server.say(1, f"<!-- {forged()} -->", STRANGER, "CONTRIBUTOR")
    (task,) = source.waiting(queues=["dev"], agents=[])
    assert claim(source, task) is not None
    server.say(1, "tsched-end r1 attempts=9 runs=9 not_before=0.000 left=idle:-:dev", STRANGER)
    assert [one.claim_run for one in source.held("me")] == ["r1"]
    assert source.settle("1", "r1", Settlement(verdict=Verdict.COMPLETE))
    assert issue.state == "closed"


def test_a_colleagues_runner_is_believed(server: IssuesServer, source: CommentedTasks) -> None:
    server.add("queue:dev")
    server.say(1, forged(), {"login": "ben", "id": 9, "type": "User"}, "MEMBER")
    (task,) = source.waiting(queues=["dev"], agents=[])
    assert claim(source, task) is None


@pytest.mark.parametrize(("role", "believed"), [("write", True), ("triage", True), ("read", False), (None, False)])
def test_whoever_claims_is_asked_for_where_github_hides_what_they_are(
    server: IssuesServer, source: CommentedTasks, role: str | None, believed: bool
) -> None:
    """Members of an organization who are so in private are shown as strangers."""
    server.roles = {"ben": role} if role else {}
    server.add("queue:dev")
    for run in ("x1", "x2"):
        server.say(1, forged(run), {"login": "ben", "id": 9, "type": "User"}, "CONTRIBUTOR")
        server.say(1, "I have seen this too.", {"login": "cy", "id": 10, "type": "User"})
    (task,) = source.waiting(queues=["dev"], agents=[])
    assert (claim(source, task) is None) == believed
    assert len(server.asked("GET", "permission$")) == 1, "of each account that claims, once"


def test_an_apps_token_that_may_not_ask_who_it_is_finds_its_own_claims(
    server: IssuesServer, source: CommentedTasks
) -> None:
    server.me, server.app = APP, True
    server.add("queue:dev")
    server.say(1, forged(), STRANGER)
    (task,) = source.waiting(queues=["dev"], agents=[])
    assert claim(source, task) is not None
    assert source.settle("1", "r1", Settlement(verdict=Verdict.COMPLETE))
    assert server.issues[1].state == "closed"


def test_of_many_runners_at_once_one_wins_each_issue(
    server: IssuesServer, source: CommentedTasks, tmp_path: Path
) -> None:
    for _ in range(4):
        server.add("queue:dev")
    tasks = source.waiting(queues=["dev"], agents=[])
    won = race(lambda name: issues_at(server.address, ledger=tmp_path / f"{name}.db", token=TOKEN), tasks)
    assert sorted(task_id for task_id, _ in won) == ["1", "2", "3", "4"]


# What it costs, and GitHub's limits


def test_a_poll_costs_a_page_for_a_hundred_issues_and_nothing_of_the_limit_while_nothing_changes(
    server: IssuesServer, source: CommentedTasks
) -> None:
    for _ in range(230):
        server.add("queue:dev")
    assert len(source.waiting(queues=["dev"], agents=[])) == 230
    assert (len(server.seen), server.spent) == (3, 3)
    server.issues[150].title = "changed"
    assert any(task.title == "changed" for task in source.waiting(queues=["dev"], agents=[]))
    assert (len(server.seen), server.spent) == (6, 4)
    for number in range(1, 101):
        server.issues[number].state = "closed"
    assert len(source.waiting(queues=["dev"], agents=[])) == 130
    assert len(source.waiting(queues=["dev"], agents=[])) == 130
    assert (len(server.seen), server.spent) == (10, 6)


def test_an_issue_after_a_page_that_is_just_full_is_seen(server: IssuesServer, source: CommentedTasks) -> None:
    """The page itself stays the same, and with it what it said of a next one."""
    for number in (100, 105, 200, 201):
        while len(server.issues) < number:
            server.add("queue:dev")
        for _ in range(2):
            assert len(source.waiting(queues=["dev"], agents=[])) == number


def test_a_run_costs_seven_requests_at_its_start_and_eight_at_its_end(
    server: IssuesServer, source: CommentedTasks
) -> None:
    for _ in range(2):
        server.add("queue:dev")
    first, task = source.waiting(queues=["dev"], agents=[])
    assert claim(source, first) is not None  # asks once more who we are and what we may
    before = len(server.seen)
    assert claim(source, task, run="r2") is not None
    assert len(server.seen) - before <= 7
    before = len(server.seen)
    source.comment(task.id, author="tsched", text="failed", tag="r2")
    assert source.settle(task.id, "r2", retry())
    assert len(server.seen) - before <= 8


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def timed(server: IssuesServer, clock: Clock, tmp_path: Path) -> Iterator[CommentedTasks]:
    access = Access(api=server.api, project="acme/app", variable="TSCHED_TASKS_TOKEN", token=TOKEN)
    limits = Limits(attempts=3, patience=-1.0, sleep=lambda _: None)
    board = GitHubIssues(access, review=False, limits=limits, clock=clock)
    with closing(CommentedTasks(board, Ledger(tmp_path / "timed.db", "x"))) as one:
        yield one


@pytest.mark.parametrize(
    ("status", "headers", "wait"),
    [
        (403, {"x-ratelimit-remaining": "0", "x-ratelimit-reset": "4102444800"}, 1e9),
        (403, {"retry-after": "90"}, 90),
        (429, {"retry-after": "90"}, 90),
        (429, {}, 60),
    ],
)
def test_a_limit_is_kept_to_and_ends(
    server: IssuesServer, timed: CommentedTasks, clock: Clock, status: int, headers: dict[str, str], wait: float
) -> None:
    server.add("queue:dev")
    server.faults = [Fault(method="GET", path="issues", status=status, headers=headers)]
    with pytest.raises(TransientError, match="takes no more calls"):
        timed.waiting(queues=["dev"], agents=[])
    for _ in range(3):
        with pytest.raises(TransientError, match="we ask again in"):
            timed.waiting(queues=["dev"], agents=[])
    assert len(server.seen) == 1, "nothing is asked while GitHub says to wait"
    clock.now += wait + 1 if wait < 1e9 else 1e10
    assert len(timed.waiting(queues=["dev"], agents=[])) == 1


def test_a_secondary_limit_is_known_by_its_words(server: IssuesServer, timed: CommentedTasks) -> None:
    server.add("queue:dev")
    body = b'{"message": "You have exceeded a secondary rate limit."}'
    server.faults = [Fault(method="GET", path="issues", status=403, body=body)]
    with pytest.raises(TransientError, match="secondary rate limit"):
        timed.waiting(queues=["dev"], agents=[])
    with pytest.raises(TransientError, match="in 60 s"):
        timed.waiting(queues=["dev"], agents=[])


# Servers and tokens that fail: one clear error each, nothing lost, nothing done twice


@pytest.mark.parametrize("how", ["half", "drop", "noise"])
def test_a_listing_that_broke_off_is_asked_for_again(server: IssuesServer, timed: CommentedTasks, how: str) -> None:
    server.add("queue:dev")
    server.faults = [Fault(method="GET", path="issues", how=how, times=2)]  # type: ignore[arg-type]
    assert len(timed.waiting(queues=["dev"], agents=[])) == 1


def test_a_claim_whose_answer_was_lost_is_not_posted_twice_and_is_found_again(
    server: IssuesServer, timed: CommentedTasks
) -> None:
    server.add("queue:dev")
    (task,) = timed.waiting(queues=["dev"], agents=[])
    server.faults = [Fault(method="POST", path="comments", how="drop", late=True)]
    with pytest.raises(TransientError):
        claim(timed, task)
    assert len(server.asked("POST", "comments$")) == len(server.issues[1].comments) == 1
    assert [one.claim_run for one in timed.held("me")] == ["r1"]
    assert timed.settle("1", "r1", retry(charged=False))
    (again,) = timed.waiting(queues=["dev"], agents=[])
    assert (again.attempts, again.runs) == (0, 1)


def test_a_token_that_lost_its_rights_is_an_error_and_no_issue_is_taken_for_gone(
    server: IssuesServer, source: CommentedTasks
) -> None:
    server.add("queue:dev")
    (task,) = source.waiting(queues=["dev"], agents=[])
    claim(source, task)
    server.hidden = True
    with pytest.raises(TransientError, match=r"TSCHED_TASKS_TOKEN access to acme/app with `issues: write`"):
        source.settle("1", "r1", Settlement(verdict=Verdict.COMPLETE))
    server.hidden = False
    del server.issues[1]
    assert not source.settle("1", "r1", Settlement(verdict=Verdict.COMPLETE))


@pytest.mark.parametrize("fault", [302, 301])
def test_a_server_that_sends_elsewhere_is_a_trouble_that_passes(
    server: IssuesServer, timed: CommentedTasks, fault: int
) -> None:
    server.add("queue:dev")
    server.faults = [Fault(method="GET", path="issues", status=fault, headers={"location": "http://127.0.0.2/login"})]
    with pytest.raises(TransientError, match=r"sends on to 127\.0\.0\.2"):
        timed.waiting(queues=["dev"], agents=[])
    assert len(timed.waiting(queues=["dev"], agents=[])) == 1


def test_a_wrong_token_is_named_by_its_variable_and_never_shown(server: IssuesServer, tmp_path: Path) -> None:
    with (
        closing(issues_at(server.address, ledger=tmp_path / "l.db", token="ghp_wr0ng")) as source,
        pytest.raises(TransientError, match="TSCHED_TASKS_TOKEN") as caught,
    ):
        source.waiting(queues=["dev"], agents=[])
    assert "wr0ng" not in str(caught.value)


@pytest.mark.parametrize(
    "address",
    ["github://acme", "github://acme/app/x", "github+http://ghe.example/acme/app", "github+https://u:p@h/a/b",
     "github:///app", "github://acme/..", "github+https://h://acme/app", "githubs://acme/app", "github://ac me/app"],
)  # fmt: skip
def test_what_is_no_repository_is_refused(address: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="github://OWNER/REPOSITORY"):
        issues_at(address, ledger=tmp_path / "l.db", token=TOKEN)


def test_without_a_token_it_says_which_to_set(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"no token for acme/app: set TSCHED_TASKS_TOKEN"):
        issues_at("github://acme/app", ledger=tmp_path / "l.db", token=None)


def test_each_form_of_an_address_names_its_api(tmp_path: Path) -> None:
    apis = {
        "github://acme/app": "https://api.github.com",
        "github+https://github.com/acme/app": "https://api.github.com",
        "github+https://big.ghe.com/acme/app": "https://api.big.ghe.com",
        "github+https://ghe.example:8443/acme/app": "https://ghe.example:8443/api/v3",
    }
    for address, api in apis.items():
        with closing(issues_at(address, ledger=tmp_path / "l.db", token=TOKEN)) as source:
            board = source._board
            assert isinstance(board, GitHubIssues)
            assert board._http._access.api == api


# Comments are for people, and the rest is hidden


def test_what_people_see_of_a_run(server: IssuesServer, source: CommentedTasks) -> None:
    server.add("queue:dev")
    (task,) = source.waiting(queues=["dev"], agents=[])
    claim(source, task)
    words = "run r1 by ada: failed: exit code 3\nIts last words:\nSee #1, @octocat: ```"
    source.comment(task.id, author="tsched", text=words, tag="r1")
    first, second = (str(one["body"]) for one in server.issues[1].comments)
    assert first.partition(" -->\n")[2] == "ada takes this task."
    assert second == f"<!-- [tsched:r1] -->\n````text\n{words}\n````"


@given(st.text(), st.sampled_from(["r1", "drain-1"]))
def test_a_tag_is_found_again_in_whatever_text(text: str, tag: str) -> None:
    posted = written(tagged(text, tag))
    assert len(posted) <= 65536
    assert has_tag([Remark(id=1, text=read(posted))], tag)
    assert parse(read(posted)) is None


def test_a_long_remark_is_cut_to_what_github_takes() -> None:
    posted = written(tagged("said:\n" + "x" * 100_000, "r1"))
    assert 65_000 < len(posted) <= 65_536
    assert posted.endswith("…\n```")


def test_the_server_itself_refuses_what_the_openapi_does_not_know(server: IssuesServer) -> None:
    headers = {
        "User-Agent": "tsched", "Authorization": f"Bearer {TOKEN}", "X-GitHub-Api-Version": "2022-11-28",
        "Accept": "application/vnd.github+json",
    }  # fmt: skip
    for target in ("issues?state=opened", "issues?limit=5", "issues?per_page=many"):
        asked = Seen(method="GET", target=f"/api/v3/repos/acme/app/{target}", headers=headers, body=b"")
        assert server.answer(asked).status == 422, target
