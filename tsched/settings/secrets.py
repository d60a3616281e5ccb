"""Keeps credentials out of what people are shown."""

import re
from typing import Final

MASK: Final = "********"
_QUERY = re.compile(r"([?&][^=&\s]*(?:token|secret|key|password)[^=&\s]*=)[^&\s#]+", re.IGNORECASE)
_PASSWORD = re.compile(r"(://[^/@:\s]*:)[^/\s]*@")  # up to the last @ before the path
_WEB_USER = re.compile(r"(https?://)[^/@:\s]+@", re.IGNORECASE)  # over http the user name alone may be a token


def masked(text: str) -> str:
    """The text with the credentials of each address in it hidden; anything else stays as it is."""
    text = _PASSWORD.sub(rf"\1{MASK}@", text)
    text = _WEB_USER.sub(rf"\1{MASK}@", text)
    return _QUERY.sub(rf"\1{MASK}", text)
