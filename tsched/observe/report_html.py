"""A workload report as one self-contained page: no script, nothing loaded, readable on a phone, light and dark."""

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from html import escape

from tsched.model.run import Outcome
from tsched.model.units import about
from tsched.observe import figures, plots
from tsched.observe.report import COLUMNS, kinds, row
from tsched.observe.text import one_line
from tsched.schedule.report import QueueDepths, WorkReport

STYLE = """
:root { color-scheme: light dark; --back: #fff; --card: #f4f5f7; --text: #1b1f24; --soft: #59636e; --line: #d5dae0;
  --complete: #2f8f63; --unproven: #d99a2b; --failed: #c8413f; --interrupted: #6f7fa0; --cancelled: #b3bac4;
  --bin: #3d74c4; }
@media (prefers-color-scheme: dark) { :root { --back: #14171b; --card: #1e2329; --text: #e4e8ed; --soft: #9aa5b1;
  --line: #38404a; --complete: #48b383; --unproven: #e3ab4b; --failed: #e5625e; --interrupted: #8b9bbd;
  --cancelled: #5c6570; --bin: #6a9ee6; } }
* { box-sizing: border-box }
body { margin: 0 auto; padding: 1.5rem 1rem 3rem; max-width: 72rem; background: var(--back); color: var(--text);
  font: 16px/1.5 system-ui, sans-serif }
h1 { font-size: 1.5rem; margin: 0 } h2 { font-size: 1.1rem; margin: 2.2rem 0 .6rem }
h3 { font-size: .95rem; font-weight: 600; margin: 1.2rem 0 .3rem }
p { margin: .2rem 0; color: var(--soft) }
.cards { display: grid; grid-template-columns: repeat(auto-fit, minmax(8.4rem, 1fr)); gap: .6rem; margin: 1.2rem 0 0;
  padding: 0 }
.cards div { background: var(--card); border-radius: .5rem; padding: .6rem .8rem }
.cards dt { color: var(--soft); font-size: .8rem } .cards dd { margin: 0; font-size: 1.3rem; font-weight: 600 }
.cards dd small { display: block; color: var(--soft); font-size: .75rem; font-weight: 400 }
.plot { display: grid; grid-template-columns: auto 1fr; column-gap: .5rem; font-size: .75rem; color: var(--soft) }
.scale { display: flex; flex-direction: column; justify-content: space-between; text-align: right; min-width: 1.8rem;
  line-height: 1; margin: -.35em 0 }
.field { height: 9rem; border-bottom: 1px solid var(--line); background: linear-gradient(var(--line), var(--line))
  0 0 / 100% 1px no-repeat, linear-gradient(var(--line), var(--line)) 0 50% / 100% 1px no-repeat }
.small .field { height: 5rem } .small p { font-size: .8rem }
.field svg { display: block; width: 100%; height: 100% }
.labels { grid-column: 2; display: flex; justify-content: space-between; padding-top: .3rem }
.even .labels span { flex: 1 1 0; text-align: center; overflow-wrap: anywhere }
.key { display: flex; flex-wrap: wrap; gap: .2rem 1rem; margin: .5rem 0 0; padding: 0; list-style: none;
  font-size: .8rem }
.key li::before { content: ""; display: inline-block; width: .7em; height: .7em; border-radius: .15em;
  margin-right: .4em; background: var(--of) }
.queues { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 20rem), 1fr)); gap: 0 1.5rem }
.wide { overflow-x: auto; border: 1px solid var(--line); border-radius: .5rem }
table { border-collapse: collapse; width: 100%; font-size: .8rem; font-variant-numeric: tabular-nums }
th, td { padding: .35rem .6rem; text-align: right; white-space: nowrap }
th { color: var(--soft); font-weight: 500 } tr + tr td, td { border-top: 1px solid var(--line) }
th:first-child, td:first-child { text-align: left; position: sticky; left: 0; background: var(--back) }
.words th, .words td { text-align: left; white-space: normal; overflow-wrap: anywhere; position: static }
.line { fill: none; stroke: var(--bin); stroke-width: 1.5px; vector-effect: non-scaling-stroke }
.area { fill: var(--bin); opacity: .2 } .bin { fill: var(--bin) }
"""
COLOURS = "".join(f".{one} {{ fill: var(--{one}) }} .key .{one} {{ --of: var(--{one}) }}\n" for one in Outcome)


def report_html(report: WorkReport, *, host: str, version: str) -> str:
    """The whole page. All that comes from tasks, agents and recipes is escaped."""
    window = report.window
    title = f"Work in {figures.span(window)}"
    parts = [
        "<header>", f"<h1>{_text(title)}</h1>",
        f"<p>{_text(host)}, {_time(window.since)} to {_time(window.until)} UTC</p>", "</header>", _cards(report),
        *_plots(report), *_tables(report), f"<p><br>tsched {_text(version)}</p>",
    ]  # fmt: skip
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">"
        f"<title>{_text(title)}</title><style>{STYLE}{COLOURS}</style></head>\n<body>\n"
        + "\n".join(parts)
        + "\n</body></html>\n"
    )


def _cards(report: WorkReport) -> str:
    whole = report.whole
    low, high = (f"{one:.0%}" for one in (whole.failed.interval.low, whole.failed.interval.high))
    few = whole.failed.runs < figures.FEW
    said = [
        ("Tasks", str(whole.tasks), f"in {whole.runs} runs"),
        ("Complete", str(whole.outcomes.get(Outcome.COMPLETE, 0)), "runs"),
        ("Failures", "-" if few else f"{whole.failed.value or 0:.0%}",
         "too few runs to tell" if few else f"between {low} and {high} (95%)"),
    ]  # fmt: skip
    for name, spread in (("Duration", whole.durations), ("First wait", whole.waits)):
        if spread is not None:
            said.append((name, about(spread.p50), f"median; 95% within {about(spread.p95)}"))
    if whole.usage is not None:
        said.append(("Tokens", figures.compact(whole.usage.total_tokens), "as agents say"))
    if whole.usage is not None and whole.usage.cost_usd is not None:
        said.append(("Cost", figures.cost(whole.usage), "as agents say"))
    cards = "".join(
        f"<div><dt>{_text(name)}</dt><dd>{_text(figure)}<small>{_text(note)}</small></dd></div>"
        for name, figure, note in said
    )
    return f'<dl class="cards">{cards}</dl>'


def _plots(report: WorkReport) -> Iterator[str]:
    if report.whole.runs:
        starts = [_time(bar.start) for bar in report.bars]
        yield f"<h2>Runs ended, each bar {_text(about(report.step))}</h2>"
        yield plots.stacked(report.bars, _few(starts), times=starts)
        used = [one for one in plots.ORDER if report.whole.outcomes.get(one, 0)]
        yield f'<ul class="key">{"".join(f"<li class={one}>{one}</li>" for one in used)}</ul>'
    if report.bins:
        yield "<h2>How long runs took, each bar from so long on</h2>"
        yield f'<div class="even">{plots.histogram(report.bins)}</div>'
    if report.depths:
        ends = (_time(report.window.since), _time(report.window.until))
        drawn = "".join(_depth(one, ends) for one in report.depths)
        yield f'<h2>Waiting tasks</h2><div class="queues">{drawn}</div>'


def _depth(one: QueueDepths, ends: Sequence[str]) -> str:
    words = f"{figures.number(one.average)} on average, {figures.number(one.most)} at most"
    drawn = plots.area(one.series, ends, says=f"Waiting tasks of {one.queue}: {words}")
    return f'<section class="small"><h3>{_text(one.queue)}</h3>{drawn}<p>{_text(words)}</p></section>'


def _tables(report: WorkReport) -> Iterator[str]:
    for by, groups in report.groups.items():
        if groups:
            yield f"<h2>By {by}</h2>"
            yield _table((by.capitalize(), *(one.capitalize() for one in COLUMNS)),
                         [(name.removeprefix("recipes/"), *row(one)) for name, one in groups.items()])  # fmt: skip
    if report.whole.failures:
        yield "<h2>Failures by kind</h2>"
        yield _table(("Runs", "Ended by", "Exit", "Such as"), kinds(report.whole.failures), kind="words")


def _table(columns: Sequence[str], rows: Sequence[Sequence[str]], *, kind: str = "") -> str:
    head = "".join(f"<th>{_text(name)}</th>" for name in columns)
    body = "".join(f"<tr>{''.join(f'<td>{_text(cell)}</td>' for cell in cells)}</tr>" for cells in rows)
    return (
        f'<div class="wide"><table class="{kind}"><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'
    )


def _few(labels: Sequence[str]) -> Sequence[str]:
    """The first, the middle one and the last."""
    return labels if len(labels) < 3 else (labels[0], labels[len(labels) // 2], labels[-1])


def _time(epoch: float) -> str:
    return datetime.fromtimestamp(epoch, UTC).strftime("%Y-%m-%d %H:%M")


def _text(text: str) -> str:
    return escape(one_line(text))
