"""A real headless Chromium, driven over its debugging pipe."""

import base64
import io
import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

from tests.e2e.world import until

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
MISSING = "no Chromium is installed (Debian: apt-get install chromium)"
FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--hide-scrollbars",
    "--disable-background-networking", "--disable-component-update", "--disable-sync", "--disable-dev-shm-usage",
    "--remote-debugging-pipe",
)  # fmt: skip
Scheme = Literal["light", "dark"]


class Browser:
    """One page. Messages are JSON ended by a NUL."""

    def __init__(self, told: int, heard: io.FileIO) -> None:
        self._told = told
        self._heard = heard
        self._rest = b""
        self._number = 0
        self._session = ""
        self.complaints: list[str] = []  # of the console: errors, and what the content policy refused
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        self._session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log"):
            self.call(f"{domain}.enable")

    def call(self, method: str, **parameters: object) -> dict[str, Any]:
        """One command and its answer; what is said meanwhile is kept."""
        self._number += 1
        sent = {"id": self._number, "method": method, "params": parameters}
        if self._session:
            sent["sessionId"] = self._session
        os.write(self._told, json.dumps(sent).encode() + b"\0")
        while (heard := self._message()).get("id") != self._number:
            self._note(heard)
        assert "error" not in heard, heard["error"]
        found: dict[str, Any] = heard["result"]
        return found

    def _message(self) -> dict[str, Any]:
        while b"\0" not in self._rest:
            part = self._heard.read(65536)
            assert part, "the browser has ended"
            self._rest += part
        message, _, self._rest = self._rest.partition(b"\0")
        found: dict[str, Any] = json.loads(message)
        return found

    def _note(self, heard: dict[str, Any]) -> None:
        match heard.get("method"):
            case "Log.entryAdded" if heard["params"]["entry"]["level"] == "error":
                self.complaints.append(str(heard["params"]["entry"]["text"]))
            case "Runtime.exceptionThrown":
                self.complaints.append(json.dumps(heard["params"]["exceptionDetails"]))

    def close(self) -> None:
        """End it."""
        self._session = ""
        self.call("Browser.close")

    def look(self, width: int, scheme: Scheme, *, script: bool = True) -> None:
        """As wide as that, by day or night, with or without JavaScript."""
        self.call(
            "Emulation.setDeviceMetricsOverride", width=width, height=900, deviceScaleFactor=1, mobile=width < 600
        )
        self.call("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])
        self.call("Emulation.setScriptExecutionDisabled", value=not script)

    def open(self, address: str) -> None:
        """Go there and wait until it is drawn."""
        self.call("Page.navigate", url=address)
        until(
            lambda: self.ask("location.href !== 'about:blank' && document.readyState") == "complete", "it is loaded"
        )

    def ask(self, expression: str) -> Any:
        """The value of a JavaScript expression in the page."""
        answer = self.call("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in answer, answer
        return answer["result"].get("value")

    def text(self) -> str:
        """What a person reads."""
        return str(self.ask("document.body?.innerText ?? ''"))

    def picture(self, path: Path) -> None:
        """The whole page as a PNG."""
        size = self.call("Page.getLayoutMetrics")["cssContentSize"]
        clip = {"x": 0, "y": 0, "width": size["width"], "height": min(size["height"], 6000), "scale": 1}
        shot = self.call("Page.captureScreenshot", format="png", captureBeyondViewport=True, clip=clip)
        path.write_bytes(base64.b64decode(shot["data"]))


@contextmanager
def browser(folder: Path) -> Iterator[Browser]:
    """A new browser without any past, whose profile is below the folder."""
    assert CHROMIUM is not None, MISSING
    to_read, told = os.pipe()
    heard, to_write = os.pipe()
    command = ["bash", "-c", f'exec "$@" 3<&{to_read} 4>&{to_write}', "bash", CHROMIUM, *FLAGS]
    process = subprocess.Popen(
        [*command, f"--user-data-dir={folder / 'profile'}", "about:blank"],
        pass_fds=(to_read, to_write), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd=folder,
        env={"PATH": os.environ["PATH"], "HOME": str(folder), "LANG": "C.UTF-8", "TMPDIR": str(folder)},
    )  # fmt: skip
    os.close(to_read)
    os.close(to_write)
    try:
        with os.fdopen(heard, "rb", buffering=0) as answers:
            made = Browser(told, answers)
            yield made
            made.close()
    finally:
        try:
            process.wait(timeout=20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        os.close(told)
