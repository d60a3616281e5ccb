"""`tsched serve` as a process, for tests, and hooks as forges sign them."""

import base64
import hashlib
import hmac
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import httpx

TOKEN, SECRET = "t0ken", "s3cret"


@contextmanager
def served(
    state: Path, *, host: str = "127.0.0.1", environ: Mapping[str, str] | None = None
) -> Iterator[httpx.Client]:
    """The server of that state folder. Gives a client of it; it must end well when it is told to."""
    folder = state.parent
    folder.mkdir(parents=True, exist_ok=True)
    known = {"PATH": os.environ["PATH"], "HOME": str(folder), "LANG": "C.UTF-8", "TSCHED_STATE": str(state)}
    log = (folder / "serve.log").open("ab")
    with subprocess.Popen(
        [sys.executable, "-m", "tsched", "serve", "--host", host, "--port", "0"],
        env={**known, **(environ or {})}, cwd=folder, stdout=subprocess.PIPE, stderr=log, text=True,
    ) as process:  # fmt: skip
        log.close()
        try:
            assert process.stdout is not None
            address = process.stdout.readline().split()[-1]
            with httpx.Client(base_url=address.replace("0.0.0.0", "127.0.0.1"), timeout=60) as client:
                yield client
        finally:
            process.terminate()
            code = process.wait(timeout=60)
    assert code == 0


def github(body: bytes, *, secret: str = SECRET, event: str = "push") -> dict[str, str]:
    """The headers of a GitHub webhook."""
    digest = hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()
    return {"x-github-event": event, "x-hub-signature-256": f"sha256={digest}", "content-type": "application/json"}


def generic(body: bytes, at: float, *, secret: str = SECRET) -> dict[str, str]:
    """The headers of any other hook, signed at a time."""
    stamp = str(int(at))
    digest = hmac.new(secret.encode(), stamp.encode() + b"." + body, hashlib.sha256).hexdigest()
    return {"x-tsched-timestamp": stamp, "x-tsched-signature-256": f"sha256={digest}"}


def gitlab(body: bytes, at: float, *, secret: str = SECRET, event: str = "Push Hook") -> dict[str, str]:
    """The headers of a GitLab webhook with a signing token."""
    stamp, number = str(int(at)), "f5e5f430-f57b-4e6e-9fac-d9128cd7232f"
    digest = hmac.new(secret.encode(), f"{number}.{stamp}.".encode() + body, hashlib.sha256).digest()
    signature = f"v1,{base64.b64encode(digest).decode()}"
    return {
        "x-gitlab-event": event, "webhook-id": number, "webhook-timestamp": stamp, "webhook-signature": signature,
    }  # fmt: skip
