"""Asks the program in this process, for tests that wait: the same command line for a tenth of the processor time."""

import os
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from io import StringIO
from pathlib import Path

from tsched.cli.main import main

_LOOKS = (("status",), ("events",), ("task", "show"))


class _Waiting:
    """Of a test that waits: whether it has looked in this process, and whether it may."""

    def __init__(self) -> None:
        self.may_look = False
        self.has_looked = False


_waiting = _Waiting()


@contextmanager
def waiting() -> Iterator[_Waiting]:
    """Until the end of the block looks may be taken in this process."""
    _waiting.may_look, _waiting.has_looked = True, False
    try:
        yield _waiting
    finally:
        _waiting.may_look = False


def look(arguments: Sequence[str], environ: Mapping[str, str], cwd: Path) -> subprocess.CompletedProcess[str] | None:
    """What a command that only looks answers to a test that waits. None: start the program itself.

    Once anything else was started the rest of the round is real too: a round that acts is not gone through twice.
    """
    if not _waiting.may_look:
        return None
    if not any(tuple(arguments[: len(one)]) == one for one in _LOOKS):
        _waiting.may_look = False
        return None
    _waiting.has_looked = True
    out, err = StringIO(), StringIO()
    with _standing(environ, cwd), redirect_stdout(out), redirect_stderr(err):
        code = main(arguments)
    return subprocess.CompletedProcess(arguments, code, out.getvalue(), err.getvalue())


@contextmanager
def _standing(environ: Mapping[str, str], cwd: Path) -> Iterator[None]:
    """This process stands in that folder, with that environment."""
    before, folder = dict(os.environ), Path.cwd()
    _have(environ)
    os.chdir(cwd)
    try:
        yield
    finally:
        os.chdir(folder)
        _have(before)


def _have(environ: Mapping[str, str]) -> None:
    """This is the environment from now on. What stays the same is never away: a test's own servers read it too."""
    for name in os.environ.keys() - environ.keys():
        del os.environ[name]
    os.environ.update(environ)
