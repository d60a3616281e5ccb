"""What every benchmark shares: `figure`, and the one table of all figures that `make bench` ends with."""

from dataclasses import dataclass, field

import pytest

from tsched.observe.tables import Table, plain


@dataclass(frozen=True, slots=True)
class Figures:
    """The figures that were measured so far, as rows of the table."""

    rows: list[tuple[str, ...]] = field(default_factory=list)

    def __call__(
        self, what: str, size: str, found: float, *, most: float | None = None, least: float | None = None,
        unit: str = "×",
    ) -> bool:  # fmt: skip
        """Note a figure, and say it at once. Whether it meets its bar, which the test has to assert."""
        met = (most is None or found <= most) and (least is None or found >= least)
        bar = "-" if most is None else f"at most {_number(most)} {unit}"
        bar = bar if least is None else f"at least {_number(least)} {unit}"
        verdict = "" if bar == "-" else "met" if met else "MISSED"
        self.rows.append((what, size, f"{_number(found)} {unit}", bar, verdict))
        print("\n" + "  ".join(self.rows[-1]))
        return met


_FIGURES = pytest.StashKey[Figures]()


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 or value == int(value) else f"{value:.2f}"


@pytest.fixture(scope="session")
def figure(pytestconfig: pytest.Config) -> Figures:
    return pytestconfig.stash.setdefault(_FIGURES, Figures())


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    figures = config.stash.get(_FIGURES, Figures())
    if figures.rows:
        terminalreporter.section("figures")
        terminalreporter.write(plain(Table(columns=("WHAT", "SIZE", "FIGURE", "BAR", ""), rows=figures.rows)))
