"""Reads the corpus: one text file a fleet, with its files, one after the other, and the findings that it must give.

The form is txtar's (golang.org/x/tools/txtar) with a few words after a file's name:

    # One line: what this fleet shows.
    # expect: pools/dev.yaml:5:11 TS304
    -- pools/dev.yaml --
    text up to the next such line
    -- pools/crlf.yaml crlf --
    text whose line ends become CR LF
    -- pools/bytes.yaml base64 --
    bytes that are no text, or whose end matters
    -- recipes/large.yaml fill 1048577 --
    text, then one long comment up to that many bytes
    -- pools/link.yaml symlink ../elsewhere.yaml --
"""

import base64
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).parents[1] / "corpus"

_HEAD = re.compile(r"^-- (?P<path>\S+)(?: (?P<word>base64|crlf|fill|symlink)(?: (?P<argument>\S+))?)? --$")
_EXPECT = "# expect: "


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One fleet: bytes and link targets by path, and the findings as `path:line:column code`, in order."""

    name: str
    summary: str
    expected: tuple[str, ...]
    files: Mapping[str, bytes]
    links: Mapping[str, str] = field(default_factory=dict)

    def extract(self, root: Path) -> Path:
        """Write the fleet's files below a folder, and return that."""
        for path, data in self.files.items():
            place = root / path
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_bytes(data)
        for path, target in self.links.items():
            place = root / path
            place.parent.mkdir(parents=True, exist_ok=True)
            place.symlink_to(target)
        return root


def cases(kind: str) -> list[Case]:
    """Every fleet of `broken` or `good`, by name."""
    return [read(path) for path in sorted((ROOT / kind).glob("*.txtar"))]


def read(path: Path) -> Case:
    """One fleet of the corpus. Raises ValueError for a file that is not in its form."""
    lines = path.read_bytes().decode().split("\n")
    head = next((number for number, line in enumerate(lines) if _HEAD.match(line)), len(lines))
    if not lines[0].startswith("# ") or any(not line.startswith(_EXPECT) for line in lines[1:head]):
        raise ValueError(f"{path}: a summary, then `# expect:` lines, then files")
    files: dict[str, bytes] = {}
    links: dict[str, str] = {}
    for name, word, argument, text in _sections(lines[head:]):
        if name in files or name in links:
            raise ValueError(f"{path}: {name} stands twice")
        if word == "symlink":
            links[name] = argument
        else:
            files[name] = _bytes(text, word, argument)
    return Case(
        name=path.stem,
        summary=lines[0].removeprefix("# "),
        expected=tuple(line.removeprefix(_EXPECT) for line in lines[1:head]),
        files=files,
        links=links,
    )


def _sections(lines: list[str]) -> Iterator[tuple[str, str, str, str]]:
    """Each file's path, word, the word's argument, and text."""
    heads = [(number, match) for number, line in enumerate(lines) if (match := _HEAD.match(line))]
    ends = [number for number, _ in heads[1:]] + [len(lines) - 1]  # after the last line end there is nothing
    for (number, match), end in zip(heads, ends, strict=True):
        text = "".join(f"{line}\n" for line in lines[number + 1 : end])
        yield match["path"], match["word"] or "", match["argument"] or "", text


def _bytes(text: str, word: str, argument: str) -> bytes:
    match word:
        case "base64":
            return base64.b64decode(text, validate=False)
        case "crlf":
            return text.replace("\n", "\r\n").encode()
        case "fill":
            data = text.encode()
            return data + b"#" * (int(argument) - len(data) - 1) + b"\n"
        case _:
            return text.encode()
