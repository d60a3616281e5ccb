"""Another runner's status, by its address or from a file."""

from pathlib import Path

import httpx
import msgspec

from tsched.model.errors import ConfigurationError, TransientError
from tsched.observe.status import Status

PATIENCE = 10.0  # seconds
LARGEST = 32 << 20  # bytes


def read_status(where: str) -> Status:
    """The status object of `tsched status --json` or of a runner's `/api/v1/status`.

    `where`: a file, or an http(s) address (without a path: that of the status is added). Raises TransientError
    where nobody answers, ConfigurationError where something else does.
    """
    body = _fetched(where) if where.startswith(("http://", "https://")) else _read(Path(where))
    try:
        return msgspec.json.decode(body, type=Status)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"{where} gives no status of a runner: {error}") from None


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise ConfigurationError(f"{path} can't be read: {error.strerror}") from None


def _fetched(address: str) -> bytes:
    try:
        url = httpx.URL(address)
        if url.path in ("", "/"):
            url = url.copy_with(path="/api/v1/status")
        with httpx.Client(timeout=PATIENCE) as client, client.stream("GET", url) as answer:
            if answer.status_code != 200:
                raise TransientError(f"{address} answers {answer.status_code}: is it a runner's status?")
            body = b""
            for part in answer.iter_bytes():
                body += part
                if len(body) > LARGEST:
                    raise ConfigurationError(f"{address} gives over {LARGEST} bytes: that is no status")
            return body
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        raise TransientError(f"{address} does not answer: {error}") from None
