"""Who may ask, and refusals in one form."""

from collections.abc import Awaitable, Callable

from starlette.requests import Request
from starlette.responses import Response

from tsched.serving import failure, finished

Endpoint = Callable[[Request], Awaitable[Response]]
Admit = Callable[[Request], None]


def guarded(inner: Endpoint, admit: Admit | None = None) -> Endpoint:
    """Every refusal in one form, `{"error": why}` with its status, never a traceback."""

    async def endpoint(request: Request) -> Response:
        try:
            if admit is not None:
                admit(request)
            return finished(await inner(request))
        except Exception as error:
            response = finished(failure(error, request))
            if response.status_code == 401:
                response.headers["www-authenticate"] = 'Basic realm="tsched", charset="UTF-8"'
            return response

    return endpoint
