"""Who may ask, and refusals in one form."""

import logging
from collections.abc import Awaitable, Callable

from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

from tsched.model.errors import TransientError, TschedError
from tsched.serving import RefusedError, finished, refusal

Endpoint = Callable[[Request], Awaitable[Response]]
Admit = Callable[[Request], None]
_LOG = logging.getLogger(__name__)


def guarded(inner: Endpoint, admit: Admit | None = None) -> Endpoint:
    """Every refusal in one form, `{"error": why}` with its status, never a traceback."""

    async def endpoint(request: Request) -> Response:
        try:
            if admit is not None:
                admit(request)
            return finished(await inner(request))
        except RefusedError as error:
            return _refused(str(error), error.status)
        except TschedError as error:
            return _refused(str(error), 503 if isinstance(error, TransientError) else 500)
        except ClientDisconnect:
            return _refused("the request ended early", 400)
        except Exception as error:
            _LOG.exception("%s %s failed", request.method, request.scope["path"])
            return _refused(f"internal error: {type(error).__name__}", 500)

    return endpoint


def _refused(text: str, status: int) -> Response:
    response = finished(refusal(text, status))
    if status == 401:
        response.headers["www-authenticate"] = 'Basic realm="tsched", charset="UTF-8"'
    return response
