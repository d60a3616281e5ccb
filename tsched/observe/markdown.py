"""A plan and its review as the comment of a pull request."""

from collections.abc import Iterator, Sequence

from tsched.model.units import count
from tsched.observe.text import slots
from tsched.schedule.plan import Plan
from tsched.schedule.review import Review

MOST_ROWS = 200  # a forge refuses comments over 65,536 characters


def plan_comment(plan: Plan, review: Review) -> str:
    """All that a reviewer should see, the urgent first."""
    parts = [
        *_warnings(plan, review),
        _table(("change", "subject", "what", "consequence"), [
            (row.kind, row.subject, row.what, row.consequence) for row in plan.rows
        ]) if plan.rows else "No change.",
        *_drained(review),
        *_capacity(review),
        *_widened(review),
        *_bound(plan, review),
    ]  # fmt: skip
    return "\n\n".join(parts)


def _warnings(plan: Plan, review: Review) -> Iterator[str]:
    if plan.held is not None:
        yield f"> [!CAUTION]\n> **The guard will hold this**: {_text(plan.held)}"
    for one in review.starved:
        yield f"> [!WARNING]\n> **Starvation**: nobody will serve the queue {_text(one.queue)}: {_text(one.witness)}."
    if review.widened:
        powers = count(len(review.widened), "power")
        owned = "the trailer `Tsched-Reviewed: widening` owns up to it"
        yield f"> [!WARNING]\n> **Widening**: agents gain {powers}, shown below; {owned}."


def _drained(review: Review) -> Iterator[str]:
    if review.drained:
        runs = sum(len(one.tasks) for one in review.drained)
        rows = [(one.agent, one.queue, ", ".join(one.tasks) or "none") for one in review.drained]
        head = f"**Blast radius**: {count(len(rows), 'agent')} to drain, {count(runs, 'run')} held now"
        yield f"{head}\n\n{_table(('agent', 'leaves queue', 'tasks it works on'), rows)}"


def _capacity(review: Review) -> Iterator[str]:
    if review.capacity:
        rows = [(one.queue, slots(one.before), slots(one.after)) for one in review.capacity]
        yield f"**Capacity**\n\n{_table(('queue', 'slots before', 'slots after'), rows)}"


def _widened(review: Review) -> Iterator[str]:
    if review.widened:
        rows = [(one.power.kind, one.power.what, one.source, ", ".join(one.agents)) for one in review.widened]
        yield f"**Widening**\n\n{_table(('power', 'what', 'by', 'agents'), rows)}"


def _bound(plan: Plan, review: Review) -> Iterator[str]:
    if plan.rows:
        yield f"To bind the merge to what is shown here, give its commit the trailer\n`Tsched-Plan: {review.digest}`"


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = ["| " + " | ".join(head) + " |", "|" + " --- |" * len(head)]
    lines += ["| " + " | ".join(_cell(cell) for cell in row) + " |" for row in rows[:MOST_ROWS]]
    if len(rows) > MOST_ROWS:
        lines.append(f"\nand {len(rows) - MOST_ROWS} more: `tsched diff` shows all")
    return "\n".join(lines)


def _cell(text: str) -> str:
    """Text that can't break out of a table's cell."""
    return _text(text).replace("|", "\\|")


def _text(text: str) -> str:
    """Text from a fleet, so that it is no HTML, no mention of a person and one line."""
    plain = text.replace("\\", "\\\\").replace("&", "&amp;").replace("<", "&lt;").replace("\n", " ")
    return plain.replace("@", "@\u200b")
