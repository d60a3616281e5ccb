"""What the shim needs of `signal`, `json` and `ctypes`: the C below them, for the Python around it doubles the start.

`json` alone takes as long to import as Python to start, as it wants regular expressions; `signal` half of that, for
its enums. Where some of the C is missing, or asks for something else than today, the modules themselves serve.
"""

TYPE_CHECKING = False  # typing itself would slow the start
if TYPE_CHECKING:
    import signal
    from collections.abc import Callable, Mapping
    from typing import Any

    _scan: Callable[[str, int], tuple[Any, int]]
    _quoted: Callable[[str], str]
    _prctl: Callable[[tuple[int, ...]], int]
else:
    try:
        import _signal as signal
    except ImportError:
        import signal

    class _Plain:
        """What json.loads tells its scanner."""

        strict = True
        object_hook = object_pairs_hook = None
        parse_float, parse_int, parse_constant = float, int, float

    try:
        from _json import encode_basestring as _quoted
        from _json import make_scanner

        _scan = make_scanner(_Plain)
    except (ImportError, AttributeError, TypeError):
        from json import JSONDecoder
        from json.encoder import encode_basestring as _quoted

        _scan = JSONDecoder().scan_once

    try:
        from _ctypes import call_function, dlopen, dlsym

        _address = dlsym(dlopen(None, 0), "prctl")

        def _prctl(arguments: "tuple[int, ...]") -> int:
            return call_function(_address, arguments)
    except (ImportError, OSError, TypeError):
        from ctypes import CDLL

        def _prctl(arguments: "tuple[int, ...]") -> int:
            return CDLL(None).prctl(*arguments)


__all__ = ["parsed", "prctl", "record", "signal"]


def prctl(option: int, value: int) -> int:
    """0, or -1 where the kernel refuses."""
    return _prctl((option, value, 0, 0, 0))


def parsed(text: str) -> "Any":
    """The value of a JSON text. Raises ValueError."""
    text = text.strip(" \t\r\n")
    try:
        value, end = _scan(text, 0)
    except (StopIteration, SystemError, ValueError):  # the second: C that misses json's own exception
        raise ValueError("this is no JSON") from None
    if end != len(text):
        raise ValueError("there is more than JSON")
    return value


def record(fields: "Mapping[str, object]", *, indent: str = "") -> str:
    """JSON of a flat mapping: text, numbers, booleans and None. `indent`: with a line for each field."""
    between, edge = (f",\n{indent}", "\n") if indent else (", ", "")
    return "{" + edge + indent + between.join(f"{_quoted(key)}: {_word(fields[key])}" for key in fields) + edge + "}"


def _word(value: object) -> str:
    if isinstance(value, str):
        return _quoted(value)
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, int | float):
        return repr(value)
    raise TypeError(f"{type(value).__name__} is no plain value")
