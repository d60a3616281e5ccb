"""Keeps credentials out of what people are shown."""

import re  # it compiles these when they are needed, which most commands have no need for
from collections.abc import Collection, Mapping
from typing import Final

MASK: Final = "********"
SHORTEST: Final = 8  # characters: what is shorter stands in other words too
_SECRET_NAME: Final = r"(?i)KEY|TOKEN|SECRET|PASSW|CREDENTIAL|(^|_)(AUTH|PAT|PWD)($|_)"
_QUERY: Final = r"(?i)([?&][^=&\s]*(?:token|secret|key|password)[^=&\s]*=)[^&\s#]+"
_CREDENTIALS: Final = r"(?<!\w)(\w{1,20}://)\S*@"  # a password may hold a slash
_PASSWORD: Final = r"(://[^/@:\s]*:)[^/\s]*@"  # up to the last @ before the path
_WEB_USER: Final = r"(?i)(https?://)[^/@:\s]+@"  # over http the user name alone may be a token


def mask(text: str) -> str:
    """Text without the credentials of any address in it, where no address need stay readable."""
    return re.sub(_CREDENTIALS, r"\1***@", text)


def masked(text: str) -> str:
    """The text with the credentials of each address in it hidden; anything else stays as it is."""
    text = re.sub(_PASSWORD, rf"\1{MASK}@", text)
    text = re.sub(_WEB_USER, rf"\1{MASK}@", text)
    return re.sub(_QUERY, rf"\1{MASK}", text)


def without(text: str, secrets: Collection[str]) -> str:
    """The text with each of the secrets in it hidden."""
    for secret in sorted(secrets, key=len, reverse=True):  # one may be part of another
        text = text.replace(secret, MASK)
    return text


def secret_values(variables: Mapping[str, str]) -> frozenset[str]:
    """The values of the variables whose names say that they are secret."""
    named = (value for name, value in variables.items() if re.search(_SECRET_NAME, name))
    return frozenset(value for value in named if len(value) >= SHORTEST)
