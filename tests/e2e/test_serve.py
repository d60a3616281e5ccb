"""`tsched serve` beside a real runner: hooks that start a pass, wishes, schemathesis, the page in Chromium."""

import json
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from tests.e2e.browser import CHROMIUM, MISSING, Browser, Scheme, browser
from tests.e2e.world import LIMITS, World, pool, until
from tests.integration.web_server import SECRET, TOKEN, generic, github, served
from tsched.state.folder import StateFolder
from tsched.state.lock import RunnerLock

BEARER = {"authorization": f"Bearer {TOKEN}"}
EVIL = "<script>document.title = 'taken over'</script>"


@contextmanager
def page(world: World) -> Iterator[httpx.Client]:
    environ = {**world.environ, "TSCHED_SERVE_TOKEN": TOKEN, "TSCHED_WEBHOOK_SECRET": SECRET}
    with served(world.state, environ=environ) as client:
        yield client


def push_hook(web: httpx.Client, commit: str) -> str:
    """What becomes of GitHub's webhook of a push to main."""
    body = json.dumps({"ref": "refs/heads/main", "after": commit}).encode()
    answer = web.post("/hooks/github", content=body, headers=github(body))
    assert answer.status_code == 202, answer.text
    return str(answer.json()["result"])


def passes(world: World) -> int:
    return len(world.run("history", "--json", "--limit", "1000", check=0).stdout.splitlines())


# --- hooks and wishes ---


def test_a_merge_takes_effect_by_its_hook_though_the_daemon_would_sleep_for_an_hour(world: World) -> None:
    first = world.fleet(dev=pool("dev", "ada"))
    with world.daemon(TSCHED_LOOP_INTERVAL="1h"), page(world) as web:
        until(lambda: world.applied() == first, "the first revision is applied")
        second = world.push("more", dev=pool("dev", "ada", limit=3))
        assert push_hook(web, second) == "started"
        until(lambda: world.applied() == second, "the hook's push is applied")
        counted = passes(world)
        assert push_hook(web, second) == "known", "a replay starts nothing"
        body = b""
        assert web.post("/hooks/generic", content=body, headers=generic(body, time.time())).status_code == 202
        until(lambda: passes(world) > counted, "the generic hook has a pass run")
        assert passes(world) == counted + 1, "and the replay had none"


def test_where_there_is_no_daemon_a_hook_runs_a_pass_of_its_own(world: World) -> None:
    first = world.fleet(dev=pool("dev", "ada"))
    world.add("hold it")
    with page(world) as web:
        assert push_hook(web, first) == "started"
        until(lambda: world.applied() == first, "it is applied")
        world.wait_running("1")
        assert web.get("/readyz").json()["ready"] is True
        second = world.push("more", dev=pool("dev", "ada", limit=3))
        assert push_hook(web, second) == "started"
        until(lambda: world.applied() == second, "the second is applied too")
    assert world.running("1") is not None, "runs go on without the server"
    with page(world) as web:
        assert push_hook(web, second) == "known", "also by a server that was started anew"


def test_hooks_that_come_together_are_two_passes_at_most_not_one_each(world: World) -> None:
    first = world.fleet(dev=pool("dev", "ada"))
    with page(world) as web:
        answers: list[str] = []
        senders = [
            threading.Thread(target=lambda number=number: answers.append(push_hook(web, f"{number:040}x")))
            for number in range(1, 13)
        ]
        for one in senders:
            one.start()
        for one in senders:
            one.join()
        assert answers == ["started"] * 12
        until(lambda: world.applied() == first, "it is applied")
    # the server has waited for the pass that was under way
    assert 1 <= passes(world) < 12


def test_a_person_with_the_token_syncs_and_accepts(world: World) -> None:
    world.fleet(dev=pool("dev", "ada", "ben", "cy"))
    world.once()
    held = world.push("nobody is left", dev=pool("dev"))
    with page(world) as web:
        assert web.post("/api/v1/sync", headers=BEARER).status_code == 202
        until(lambda: world.status()["revision"]["held"], "it is held")
        assert held[:12] in web.get("/").text
        wrong = web.post(f"/api/v1/accept/{'b' * 40}", headers=BEARER)
        assert (wrong.status_code, "not the held revision" in wrong.json()["error"]) == (409, True)
        agreed = web.post(f"/api/v1/accept/{held[:12]}", headers=BEARER)
        assert (agreed.status_code, agreed.json()["revision"]) == (202, held)
        until(lambda: world.applied() == held, "it is applied")
    (event,) = world.events("revision.accepted")
    assert "tsched serve" in event["message"]


# --- metrics ---


def test_metrics_are_printed_and_written_and_served_alike(world: World) -> None:
    world.fleet(dev=pool("dev", "ada", limit=2))
    world.add("quick")
    until(lambda: world.once() and world.task("1")["status"] == "complete", "the task is complete")
    said = world.run("metrics", check=0).stdout
    assert 'tsched_runs_ended_total{agent="ada",outcome="complete",queue="dev"} 1.0' in said
    assert 'tsched_agent_slots{agent="ada",pool="dev",queue="dev"} 2.0' in said
    assert 'tsched_run_seconds_bucket{le="+Inf",queue="dev"} 1.0' in said
    file = world.root / "tsched.prom"
    world.run("metrics", "--textfile", str(file), check=0)
    assert (file.stat().st_mode & 0o777, [one.name for one in world.root.glob("*.prom*")]) == (0o644, ["tsched.prom"])
    with page(world) as web:
        served_text = web.get("/metrics").text
    volatile = ("tsched_queue_oldest_wait", "tsched_last_pass")
    for text in (file.read_text(), served_text):
        lines = [one for one in text.splitlines() if not one.startswith(volatile)]
        assert lines == [one for one in said.splitlines() if not one.startswith(volatile)]


# --- the API by schemathesis ---


@contextmanager
def busy_runner(world: World) -> Iterator[None]:
    """The lock is held and a wish is not heard: what is asked for a hundred times is not done a hundred times."""
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with RunnerLock(StateFolder(world.state)):
            yield
    finally:
        signal.signal(signal.SIGHUP, before)


def test_the_api_keeps_its_document(world: World) -> None:
    world.fleet(dev=pool("dev", "ada"), limits=LIMITS.replace("100ms", "1h", 1))  # no pass is due while it is tried
    world.add("quick")
    until(lambda: world.once() and world.task("1")["status"] == "complete", "the task is complete")
    program = Path(sys.executable).with_name("schemathesis")
    with busy_runner(world), page(world) as web:
        document = str(web.base_url.join("/openapi.json"))
        flags = "--phases coverage,fuzzing --max-examples 3 --seed 1 --no-color --generation-database none"
        done = subprocess.run(
            [program, "run", document, "--header", f"Authorization: Bearer {TOKEN}", *flags.split()],
            cwd=world.root, env=world.environ, capture_output=True, text=True, timeout=300, check=False,
        )  # fmt: skip
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]
    assert "Tested: 20" in done.stdout, done.stdout[-3000:]


# --- the page in a real browser ---


@pytest.fixture
def chromium(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    if CHROMIUM is None:
        pytest.skip(MISSING)
    with browser(tmp_path_factory.mktemp("chromium")) as made:
        yield made


def test_the_page_lives_while_work_goes_on(world: World, chromium: Browser) -> None:
    world.fleet(dev=pool("dev", "ada", limit=2))
    with world.daemon(), page(world) as web:
        until(world.applied, "the fleet is applied")
        chromium.look(1280, "light")
        chromium.open(str(web.base_url))
        until(lambda: "Nothing runs." in chromium.text(), "the page is there")
        colours = [chromium.ask(f"getComputedStyle(document.querySelector('{one}')).color") for one in COLOURED]
        assert colours[0] == colours[1], "ready is green, as an active agent is"
        chromium.ask("window.same = document.getElementById('all-conditions').open = true")
        task = world.add(f"hold {EVIL}")
        until(lambda: EVIL in chromium.text(), "the run appears by itself, its title as text")
        assert chromium.ask("window.same"), "without loading the page anew"
        assert chromium.ask("document.getElementById('all-conditions').open"), "and what was opened stays so"
        assert chromium.ask("document.querySelectorAll('main script').length") == 0
        chromium.ask("document.querySelector('#runs a').click()")
        until(lambda: "holding" in chromium.text(), "the page of the run shows its log")
        world.open(task)
        until(lambda: "complete" in chromium.ask("document.getElementById('facts').innerText"), "it sees its end")
        assert "taken over" not in str(chromium.ask("document.title"))
    until(lambda: "no answer since" in chromium.text(), "it says when the server is gone")
    assert [one for one in chromium.complaints if "ERR_CONNECTION" not in one] == []


COLOURED = ("#headline h1", "[data-state=active]")
LOOKS: Sequence[tuple[int, Scheme]] = ((1280, "light"), (1280, "dark"), (360, "light"), (360, "dark"))


def test_it_is_readable_on_a_desk_and_on_a_phone_by_day_and_by_night(world: World, chromium: Browser) -> None:
    """Without JavaScript: the page is whole, fits, and its words stand out from what is behind them (WCAG AA)."""
    other = pool("a-pool-with-a-rather-long-name", "cy", limit=30)
    alerts = "alerts: {rules: [{type: revision, name: refused}]}\n"  # whose subject is a whole commit's id
    world.fleet(dev=pool("dev", "ada", "ben", limit=2), other=other, limits=LIMITS + alerts)
    task = world.add(f"hold {EVIL} {'long' * 40}")
    world.add("fail this")
    world.once()
    run = world.wait_running(task)["run_id"]
    world.push("broken", dev="nonsense: [")
    world.once(check=1)
    with page(world) as web:
        front = ("Not ready", "Rejected", "refused", "ada", "TS101")
        for path, words in {"/": front, f"/runs/{run}": ("holding",)}.items():
            for width, scheme in LOOKS:
                chromium.look(width, scheme, script=False)
                chromium.open(str(web.base_url.join(path)))
                picture = world.root / f"{width}-{scheme}.png"
                chromium.picture(picture)
                assert picture.stat().st_size > 10_000
                chromium.look(width, scheme, script=True)
                assert chromium.ask("document.documentElement.scrollWidth") == width, "nothing hangs over the edge"
                assert [one for one in (EVIL, *words) if one not in chromium.text()] == []
                assert chromium.ask(CONTRAST) == []
    assert chromium.complaints == []


# Every element with words of its own whose contrast with the ground behind it is under 4.5.
CONTRAST = """
(() => {
  const light = (colour) => {
    const parts = colour.match(/[\\d.]+/g).slice(0, 3).map(Number).map((one) => one / 255)
      .map((one) => (one <= 0.03928 ? one / 12.92 : ((one + 0.055) / 1.055) ** 2.4));
    return 0.2126 * parts[0] + 0.7152 * parts[1] + 0.0722 * parts[2];
  };
  const ground = (element) => {
    for (let at = element; at; at = at.parentElement) {
      const colour = getComputedStyle(at).backgroundColor;
      if (!/rgba\\(.*, 0\\)/.test(colour)) return colour;
    }
    return "rgb(255, 255, 255)";
  };
  const poor = [];
  for (const element of document.querySelectorAll("body *")) {
    const words = [...element.childNodes].some((node) => node.nodeType === 3 && node.textContent.trim());
    if (!words || element.closest("svg")) continue;
    const [one, other] = [light(getComputedStyle(element).color), light(ground(element))];
    const contrast = (Math.max(one, other) + 0.05) / (Math.min(one, other) + 0.05);
    if (contrast < 4.5) poor.push(`${element.tagName} ${element.textContent.slice(0, 20)} ${contrast.toFixed(1)}`);
  }
  return poor;
})()
"""
