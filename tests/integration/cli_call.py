"""Calls the command line in this process, as a shell would: arguments in; exit code, output and remarks out."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

import pytest

from tsched.cli.main import main


@dataclass(frozen=True, slots=True, kw_only=True)
class Said:
    """What one call answered."""

    code: int
    out: str
    err: str

    def json(self) -> "Parsed":
        parsed: Parsed = json.loads(self.out)
        return parsed


Parsed: TypeAlias = "dict[str, Parsed] | list[Parsed] | str | int | float | bool | None"
Call: TypeAlias = Callable[..., Said]


def caller(capsys: pytest.CaptureFixture[str]) -> Call:
    """A function that runs `tsched` with the arguments given to it."""

    def call(*arguments: str) -> Said:
        capsys.readouterr()
        code = main(arguments)
        said = capsys.readouterr()
        return Said(code=code, out=said.out, err=said.err)

    return call
