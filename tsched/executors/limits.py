"""A run's resources as the kernel is told of them: files of a cgroup for all of the run, rlimits for each process."""

from collections.abc import Iterator, Mapping

from tsched.model.fleet import Resources

Limit = Mapping[str, object]  # as the shim reads it: name, files (the first must take), rlimit ("": none), most
PERIOD = 100_000  # microseconds: cpu.max gives a share of each


def limits(resources: Resources) -> list[Limit]:
    """Those that are asked for."""
    return list(_limits(resources))


def _limits(wanted: Resources) -> Iterator[Limit]:
    if wanted.cpus is not None:
        share = f"{max(1000, round(wanted.cpus * PERIOD))} {PERIOD}"  # the kernel takes no less
        yield _limit("cpus", files={"cpu.max": share})
    if wanted.memory is not None:
        # Not RLIMIT_AS: node and Go reserve far more addresses than they ever use.
        files = {"memory.max": str(wanted.memory), "memory.swap.max": "0"}
        yield _limit("memory", files=files, rlimit="RLIMIT_DATA", most=wanted.memory)
    if wanted.processes is not None:
        files = {"pids.max": str(wanted.processes)}
        yield _limit("processes", files=files, rlimit="RLIMIT_NPROC", most=wanted.processes)
    if wanted.open_files is not None:
        yield _limit("open_files", rlimit="RLIMIT_NOFILE", most=wanted.open_files)
    if wanted.file_size is not None:
        yield _limit("file_size", rlimit="RLIMIT_FSIZE", most=wanted.file_size)


def _limit(name: str, *, files: Mapping[str, str] | None = None, rlimit: str = "", most: int = 0) -> Limit:
    return {"name": name, "files": files or {}, "rlimit": rlimit, "most": most}
