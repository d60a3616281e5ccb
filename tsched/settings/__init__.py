"""Host settings: what one machine says about its runner (not in git), each value with where it came from."""

from tsched.settings.host import Settings, load, resolve
from tsched.settings.variables import VARIABLES, Origin, Source

__all__ = [
    "VARIABLES",
    "Origin",
    "Settings",
    "Source",
    "load",
    "resolve",
]
