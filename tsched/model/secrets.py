"""Keeps credentials out of what people are shown."""

import re
from typing import Final

MASK: Final = "********"
_QUERY = re.compile(r"([?&][^=&\s]*(?:token|secret|key|password)[^=&\s]*=)[^&\s#]+", re.IGNORECASE)
_CREDENTIALS = re.compile(r"(?<!\w)(\w{1,20}://)\S*@")  # a password may hold a slash
_PASSWORD = re.compile(r"(://[^/@:\s]*:)[^/\s]*@")  # up to the last @ before the path
_WEB_USER = re.compile(r"(https?://)[^/@:\s]+@", re.IGNORECASE)  # over http the user name alone may be a token


def mask(text: str) -> str:
    """Text without the credentials of any address in it, where no address need stay readable."""
    return _CREDENTIALS.sub(r"\1***@", text)


def masked(text: str) -> str:
    """The text with the credentials of each address in it hidden; anything else stays as it is."""
    text = _PASSWORD.sub(rf"\1{MASK}@", text)
    text = _WEB_USER.sub(rf"\1{MASK}@", text)
    return _QUERY.sub(rf"\1{MASK}", text)
