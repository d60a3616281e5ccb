"""Who may look and who may wish."""

import base64
import binascii
import hmac
from dataclasses import dataclass, field

from starlette.requests import Request

from tsched.serving import LOOPBACK, RefusedError, bears, forbid_strangers


@dataclass(frozen=True, slots=True, kw_only=True)
class Access:
    """`host`: where we listen. `token`: opens everything. `secret`: signs hooks. `branch`: followed."""

    host: str
    token: str | None = field(repr=False, default=None)
    secret: str | None = field(repr=False, default=None)
    branch: str = "main"

    def reading(self, request: Request) -> None:
        """The token; on loopback also nothing, from this machine's own pages. Raises RefusedError."""
        if self.token is not None and (bears(request, self.token) or _password(request, self.token)):
            return
        if self.host not in LOOPBACK:
            raise RefusedError("a bearer token is needed, or it as a password: TSCHED_SERVE_TOKEN", 401)
        forbid_strangers(request, (self.host,))

    def writing(self, request: Request) -> None:
        """The token as a bearer, which no page of another site can make a browser send. Raises RefusedError."""
        if self.token is None:
            raise RefusedError("nothing can be changed here: set TSCHED_SERVE_TOKEN on the server", 403)
        if not bears(request, self.token):
            raise RefusedError("a bearer token is needed: TSCHED_SERVE_TOKEN", 401)


def _password(request: Request, token: str) -> bool:
    """Whether the request shows the token as any user's password: browsers ask a person for one."""
    kind, _, given = request.headers.get("authorization", "").partition(" ")
    if kind.lower() != "basic":
        return False
    try:
        password = base64.b64decode(given.encode(), validate=True).partition(b":")[2]
    except (binascii.Error, UnicodeEncodeError):
        return False
    return hmac.compare_digest(password, token.encode())
