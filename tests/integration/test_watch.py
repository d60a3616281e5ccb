"""The end of a process is told, once, and no descriptor of it is kept."""

import os
import subprocess

from tsched.executors.watch import Watch


def test_the_end_of_a_process_is_told_once_and_its_descriptor_given_back() -> None:
    before = len(os.listdir("/proc/self/fd"))
    watch = Watch()
    with subprocess.Popen(["cat"], stdin=subprocess.PIPE) as one, subprocess.Popen(["sleep", "300"]) as other:
        assert watch.add("one", one.pid)
        assert watch.add("other", other.pid)
        assert list(watch.ended()) == []
        assert one.stdin is not None
        one.stdin.close()
        os.waitid(os.P_PID, one.pid, os.WEXITED | os.WNOWAIT)  # a zombie has ended
        assert list(watch.ended()) == ["one"]
        assert "one" not in watch
        assert list(watch.ended()) == []
        assert "other" in watch
        other.kill()
    assert not watch.add("gone", one.pid)
    del watch
    assert len(os.listdir("/proc/self/fd")) == before
