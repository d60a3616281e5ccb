"""A report of work as tables, lines and a page: what is said of few runs, and that nothing breaks out of the page."""

import csv
import io
from html.parser import HTMLParser

from tests.work import result
from tsched.model.history import Sample
from tsched.model.run import Outcome, Usage
from tsched.observe import figures, plots
from tsched.observe.report import report_csv, report_object, report_tables
from tsched.observe.report_html import report_html
from tsched.schedule.rates import Rate
from tsched.schedule.report import WorkReport, work_report
from tsched.schedule.timeline import Window
from tsched.schedule.workload import By

WINDOW = Window(since=0.0, until=7200.0)
ATTRIBUTES = {
    *("lang", "charset", "name", "content", "http-equiv", "class", "role", "aria-label"),
    *("viewbox", "preserveaspectratio", "x", "y", "width", "height", "d"),
}
EVIL = '<script>alert("1")</script>&\x1b[31m'


def report(*, evil: str = "ada") -> WorkReport:
    runs = [
        result("a", at=10.0, took=5.0, agent=evil, recipe=f"recipes/{evil}.yaml", first=True, queued_at=4.0,
               usage=Usage(total_tokens=1200, cost_usd=0.5)),
        result("b", at=4000.0, took=90.0, outcome=Outcome.FAILED, reason=evil, exit_code=3, agent=evil, task_id="2"),
        result("c", at=4000.0, took=0.5, outcome=Outcome.CANCELLED, pool="qa", queue="qa", task_id="3"),
    ]  # fmt: skip
    samples = [Sample(time=3600.0, queue=evil, idle=4, blocked=0, working=0)]
    return work_report(WINDOW, runs, samples, by=[By.POOL, By.AGENT, By.RECIPE])


class Page(HTMLParser):
    """Every tag with its attributes, the words, and whether all that opened was closed in order."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.words = ""
        self.open: list[str] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in ("meta", "br"):
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.words += data


def test_the_page_is_whole_and_loads_and_runs_nothing() -> None:
    page = Page(report_html(report(evil=EVIL), host=EVIL, version="0"))
    assert page.open == []
    assert {tag for tag, _ in page.tags}.isdisjoint({"script", "link", "img", "iframe", "object", "base", "form"})
    assert {name for _, attributes in page.tags for name in attributes} <= ATTRIBUTES, "none loads or runs anything"
    assert "url(" not in page.words
    assert "@import" not in page.words
    assert page.words.count('<script>alert("1")</script>&\\x1b[31m') >= 5, "shown as what it is"
    assert any(attributes.get("http-equiv") == "Content-Security-Policy" for _, attributes in page.tags)


def test_the_page_draws_every_run() -> None:
    page = Page(report_html(report(), host="h", version="0"))
    rects = [attributes["class"] for tag, attributes in page.tags if tag == "rect"]
    assert [rects.count(kind) for kind in ("complete", "failed", "cancelled")] == [1, 1, 1]
    assert rects.count("bin") == 6, "from half a second to over a minute"
    assert sum(tag == "path" for tag, _ in page.tags) == 2, "the area and the line of one queue"
    for tag, attributes in page.tags:
        if tag == "rect":
            top, height = float(attributes["y"] or "nan"), float(attributes["height"] or "nan")
            assert 0 <= top <= top + height <= plots.HIGH + 0.01


def test_a_page_of_nothing_says_so_without_breaking() -> None:
    page = Page(report_html(work_report(WINDOW, [], [], by=list(By)), host="h", version="0"))
    assert page.open == []
    assert "too few runs to tell" in page.words


def test_lines_for_a_spreadsheet_add_up() -> None:
    lines = list(csv.DictReader(io.StringIO(report_csv(report()))))
    assert (
        lines[0] | {"by": "all", "tasks": "3", "runs": "3", "complete": "1", "duration_p95_seconds": "90.000"}
        == (lines[0])
    )
    assert lines[0]["wait_mean_seconds"] == "6.000"
    assert (lines[0]["tokens"], lines[0]["cost_usd"]) == ("1200", "0.5")
    for by in ("pool", "agent", "recipe"):
        assert sum(int(line["runs"]) for line in lines if line["by"] == by) == 3
    qa = next(line for line in lines if line["name"] == "qa")
    assert (qa["tokens"], qa["wait_p50_seconds"]) == ("", "")


def test_the_object_and_the_tables_say_the_same() -> None:
    made = report()
    found = report_object(made)
    assert found["total"] == figures.summary_object(made.whole)
    whole = next(iter(report_tables(made)))
    cells = dict(zip(whole.columns, whole.rows[0], strict=True))
    assert (cells["RUNS"], cells["COMPLETE"], cells["FAILED"], cells["STOPPED"]) == ("3", "1", "1", "1")
    assert cells["FAILURES"] == "1 of 2, too few to tell"


def test_rates_of_few_runs_are_not_given() -> None:
    assert figures.rate(Rate(successes=1, runs=4)) == "1 of 4, too few to tell"
    assert figures.rate(Rate(successes=1, runs=5)) == "20% (1 of 5)"
    assert figures.rate(Rate(successes=0, runs=0)) == "-"


def test_a_sparkline_shows_what_is_there_and_what_is_not_known() -> None:
    assert figures.sparkline([None, 0.0, 0.01, 4.0, 8.0]) == " ▁▂▅█"
    assert figures.sparkline([0.0, 0.0]) == "▁▁"
    assert figures.sparkline([]) == ""


def test_scales_end_at_even_figures() -> None:
    assert [plots.nice(value) for value in (0, 0.3, 1, 7, 11, 2700, 9999)] == [1, 1, 1, 8, 20, 3000, 10000]


def test_gaps_in_a_line_stay_gaps() -> None:
    drawn = plots.area([1.0, None, None, 2.0, 2.0], ["a", "b"], says="s")
    assert drawn.count('class="line"') == 2
    assert 'd="M3 0.00 V0.00 H4 V0.00 H5"' in drawn
