"""What a commit's message and a remote's address say of the pull request behind it."""

import pytest

from tsched.gitops.forge import change_address
from tsched.model.commit import Commit


@pytest.mark.parametrize(
    ("message", "number"),
    [
        ("Merge pull request #12 from team/branch\n\nMore slots", 12),
        ("More slots for vaela (#34)\n\n* one\n* two (#5)", 34),
        ("Merge branch 'x' into 'main'\n\nMore slots\n\nSee merge request team/fleet!7", 7),
        ("Merge pull request 'More slots' (#8) from x into main", 8),
        ("Mend #12 at last", None),
        ("More slots\n\nas in (#5)", None),
        ("", None),
    ],
)
def test_the_message_names_the_pull_request(message: str, number: int | None) -> None:
    commit = Commit(id="c", author="a", email="e", date=0.0, message=message)
    assert commit.pull_request == number


@pytest.mark.parametrize(
    ("remote", "environ", "address"),
    [
        ("https://github.com/team/fleet.git", {}, "https://github.com/team/fleet/pull/7"),
        ("git@github.com:team/fleet.git", {}, "https://github.com/team/fleet/pull/7"),
        ("ssh://git@ssh.github.com:443/team/fleet", {}, "https://github.com/team/fleet/pull/7"),
        ("https://x:secret@gitlab.com/a/b/fleet", {}, "https://gitlab.com/a/b/fleet/-/merge_requests/7"),
        ("git@git.example.org:a/fleet", {"TSCHED_FORGE": "gitlab"}, "https://git.example.org/a/fleet/-/merge_requests/7"),
        ("https://git.example.org:8443/a/fleet", {"TSCHED_FORGE": "github"}, "https://git.example.org:8443/a/fleet/pull/7"),
        ("git@git.example.org:a/fleet", {}, None),
        ("/srv/fleet.git", {}, None),
        ("https://github.com/a/../b", {}, None),
    ],
)  # fmt: skip
def test_the_remote_says_where_a_pull_request_is(remote: str, environ: dict[str, str], address: str | None) -> None:
    assert change_address(remote, 7, environ=environ) == address
