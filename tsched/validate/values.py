"""Reading checked YAML values: nested mappings, lists, whole numbers, durations; absent keys give defaults."""

from collections.abc import Mapping

from tsched.model.units import parse_duration
from tsched.validate.source import Value

Mapped = Mapping[str, Value]


def mapping(value: Value) -> Mapped:
    """A nested mapping, empty where the key is absent."""
    return value if isinstance(value, dict) else {}


def items(value: Value) -> list[Value]:
    """A list, empty where the key is absent."""
    return value if isinstance(value, list) else []


def whole(value: Value, default: int) -> int:
    """An integer, or the default where the key is absent."""
    return int(value) if isinstance(value, (int, float)) else default


def seconds(value: Value, default: float) -> float:
    """A duration in seconds, or the default where the key is absent."""
    return parse_duration(value) if isinstance(value, str) else default
