"""An operator who has moved from TinyScheduler to tsched: the guide's agents and queues, a shell in their folder."""

import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.e2e.world import World, pool

GUIDE = Path(__file__).with_name("guide.md")
_HEADING = re.compile(r"^## (.*)$", re.MULTILINE)
_BLOCK = re.compile(r"```bash\n(.*?)```", re.DOTALL)


def headings() -> list[str]:
    """The guide's headings that have commands."""
    return _HEADING.findall(GUIDE.read_text(encoding="utf-8"))


def block(heading: str, number: int = 1) -> str:
    """The n-th block of commands below a heading of the guide, word for word."""
    _, _, rest = GUIDE.read_text(encoding="utf-8").partition(f"## {heading}\n")
    found = _BLOCK.findall(_HEADING.split(rest)[0])
    return str(found[number - 1])


class Operator(World):
    """The guide's fleet (vaela, damien in dev; oscar, kalis in qa; sage in product) and the operator's folder."""

    def __init__(self, root: Path) -> None:
        self.folder = root / "calypso"
        super().__init__(root)
        self.recipes("vaela", "damien", "oscar", "kalis", "sage")
        self.fleet(
            dev=pool("dev", "vaela, limit: 3", "damien, limit: 2"),
            qa=pool("qa", "oscar, limit: 2", "kalis"),
            product=pool("product", "sage"),
        )
        self.state = self.folder / "state"
        self.environ.pop("TSCHED_STATE")
        self.run("init", "--host", str(self.folder), check=0)
        self.environ.pop("TSCHED_REPO")  # it is in the folder's tinyscheduler.env
        self.environ["TINYSCHEDULER_AGENT_CONTROL_FILE"] = str(self.state / "agent-control.json")
        self.port = 0  # of `tasks serve`, where one is started

    def run(  # type: ignore[override]
        self, *arguments: str, check: int | None = None, cwd: Path | None = None, **environ: str
    ) -> subprocess.CompletedProcess[str]:
        """Run the program where the operator stands."""
        folder = cwd or (self.folder if self.folder.exists() else self.root)
        return super().run(*arguments, check=check, cwd=folder, **environ)  # type: ignore[arg-type]

    @contextmanager
    def daemon(self, **environ: str) -> Iterator[subprocess.Popen[str]]:  # type: ignore[override]
        """The runner, started as the guide's units start it; SIGTERM must end it with exit code 0."""
        process = subprocess.Popen(
            [self.folder / "tinyscheduler", "run", "--daemon"], env={**self.environ, **environ}, cwd=self.folder,
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, text=True,
        )  # fmt: skip
        try:
            yield process
        finally:
            process.terminate()
            code = process.wait(timeout=60)
        assert code == 0

    def sh(self, script: str, *, check: int | None = 0, **environ: str) -> str:
        """What a script prints, run by bash in the operator's folder, our tsched first on PATH."""
        path = f"{Path(sys.executable).parent}:{self.environ['PATH']}"
        script = script.replace("localhost:3000", f"localhost:{self.port}")
        done = subprocess.run(
            ["bash", "-c", script], cwd=self.folder, env={**self.environ, **environ, "PATH": path},
            capture_output=True, text=True, timeout=120, check=False,
        )  # fmt: skip
        assert "Traceback" not in done.stderr, done.stderr
        assert check is None or done.returncode == check, f"exit {done.returncode}: {done.stdout}{done.stderr}"
        return done.stdout

    def guide(self, heading: str, number: int = 1, *, check: int | None = 0, **words: str) -> str:
        """Run a block of the guide. `words`: what stands for its <placeholders>."""
        script = block(heading, number)
        for name, value in words.items():
            script = script.replace(f"<{name}>", value)
        return self.sh(script, check=check)
