"""Where a runner may have cgroups for its runs, from the kernel's own words."""

from pathlib import Path

import pytest

from tsched.executors.cgroups import base_of

UNIFIED = "30 23 0:26 / /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw,nsdelegate\n"
HYBRID = (
    "29 23 0:25 / /sys/fs/cgroup ro - tmpfs tmpfs ro,mode=755\n"
    "31 29 0:27 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n"
    "30 29 0:26 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n"
)
BOUND = "30 23 0:26 /system.slice/docker-1.scope /sys/fs/cgroup rw - cgroup2 cgroup rw\n"


@pytest.mark.parametrize(
    ("mounts", "own", "base"),
    [
        (UNIFIED, "0::/system.slice/ts.service\n", "/sys/fs/cgroup/system.slice/ts.service"),
        (UNIFIED, "0::/system.slice/ts.service/runner\n", "/sys/fs/cgroup/system.slice/ts.service"),
        (UNIFIED, "0::/runner-up\n", "/sys/fs/cgroup/runner-up"),
        (HYBRID, "4:memory:/x\n0::/\n", "/sys/fs/cgroup/unified"),
        (BOUND, "0::/system.slice/docker-1.scope\n", "/sys/fs/cgroup"),
        (BOUND, "0::/elsewhere\n", None),  # of a group that is not mounted here
        (UNIFIED, "0::/../outside\n", None),
        (UNIFIED, "4:memory:/x\n", None),
        (HYBRID.rpartition("30 ")[0], "0::/\n", None),
        ("", "", None),
    ],
)
def test_the_place_for_the_groups_of_runs(mounts: str, own: str, base: str | None) -> None:
    assert base_of(mounts, own) == (None if base is None else Path(base))
