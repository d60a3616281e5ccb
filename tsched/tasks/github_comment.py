"""A comment on a GitHub issue: what is for programs is hidden in it, and what agents said calls nobody."""

import re

import msgspec

from tsched.rest.github import GitHubUser
from tsched.rest.texts import cut
from tsched.tasks.claims import Remark, parse
from tsched.tasks.wire import epoch

_BODY = 65536  # characters that GitHub takes
_FENCED = re.compile(r"(`{3,})text\r?\n(.*)\r?\n\1\s*", re.DOTALL)
_MARK = re.compile(r"<!-- (tsched-(?:claim|end) .*|\[tsched:.*\]) -->(?:\r?\n|\Z)")


class Comment(msgspec.Struct, frozen=True):
    """A comment, as GitHub gives it."""

    id: int
    body: str | None = None
    user: GitHubUser | None = None
    author_association: str = "NONE"
    created_at: str = ""


def remark_of(comment: Comment) -> Remark:
    """What it says, as a task server's comment."""
    author = comment.user.login if comment.user else ""
    return Remark(id=comment.id, text=read(comment.body or ""), author=author, created_at=epoch(comment.created_at))


def written(text: str) -> str:
    """A comment's text as it is posted: what is for programs is hidden, and what agents said calls nobody."""
    first, _, rest = text.partition("\n")
    if parse(text) is not None:
        return cut(f"<!-- {first} -->\n{rest}", _BODY)
    words, _, tag = text.rpartition("\n")
    fence = "`" * max(3, 1 + max((len(one) for one in re.findall(r"`+", words)), default=0))
    room = _BODY - len(tag) - 2 * len(fence) - 20
    return f"<!-- {tag} -->\n{fence}text\n{cut(words, room)}\n{fence}"


def read(body: str) -> str:
    """A comment's text as it was before it was posted, as far as claims and tags go."""
    mark = _MARK.match(body)
    if mark is None:
        return body
    rest = body[mark.end() :]
    if not mark[1].startswith("["):
        return f"{mark[1]}\n{rest}"
    fenced = _FENCED.fullmatch(rest)
    return f"{fenced[2] if fenced else rest}\n{mark[1]}"
