"""Reads what stands on a host without a fleet repo: control file, limits, recipes."""

import hashlib
import os
from collections.abc import Iterator, Mapping
from pathlib import Path

from tsched.model.errors import ConfigurationError
from tsched.model.files import RepoFile, RepoFiles
from tsched.model.fleet import Fleet, Limits
from tsched.settings import Settings
from tsched.settings.show import in_force
from tsched.validate.control import Control, parse_control
from tsched.validate.fleet import FleetCache, Loaded
from tsched.validate.installation import Sources, build, check_names
from tsched.validate.source import LARGEST

BUILT_IN = Limits()
DEFAULT_CONTROL = """\
[
  {"agentName": "dispatcher", "agentType": "orchestrator"},
  {"agentName": "architect", "agentType": "architect"}
]
"""


def check_source(settings: Settings) -> None:
    """Raise ConfigurationError where nothing says which agents there are."""
    if settings.repo is None and not settings.installed:
        raise ConfigurationError(
            "no fleet repo is set: set TSCHED_REPO to its address or path, in the environment or an env file "
            f"(nor is there a control file {settings.control_file}, nor TINYSCHEDULER_AGENT_LIMITS)"
        )


def sources(settings: Settings) -> Sources:
    """What stands on this machine. Raises ConfigurationError for a control file that is there and can't be read."""
    path, control = settings.control_file, _control_text(settings.control_file)
    return Sources(
        control_file=str(path),
        control=control,
        limits=settings.agent_limits if settings.limits_set else None,
        figures=Limits(
            loop_interval=in_force(settings.loop_interval, BUILT_IN.loop_interval),
            heartbeat=in_force(settings.heartbeat, BUILT_IN.heartbeat),
            max_runtime=in_force(settings.max_runtime, BUILT_IN.max_runtime),
        ),
        recipes_dir=str(settings.recipes_dir),
        files=_files(settings.recipes_dir, {str(path): control.encode()} if control is not None else {}),
    )


def _control_text(path: Path) -> str | None:
    """None where there is no such file."""
    try:
        with path.open("rb") as opened:
            data = opened.read(LARGEST + 1)
        if len(data) > LARGEST:
            raise ConfigurationError(f"{path} is larger than {LARGEST >> 20} MiB: is it the control file?")
        return data.decode("utf-8-sig")
    except FileNotFoundError:
        return None
    except UnicodeDecodeError:
        raise ConfigurationError(f"{path} is not UTF-8 text: save it as UTF-8") from None
    except OSError as error:
        raise ConfigurationError(f"can't read {path}: {error.strerror}. Mend that (chmod 644, say)") from None


def control_of(settings: Settings) -> Control | None:
    """The control file as it is read, None where there is none. Raises ConfigurationError."""
    text = _control_text(settings.control_file)
    return None if text is None else check_names(parse_control(text, str(settings.control_file)))


def here(settings: Settings, before: Fleet | None) -> tuple[RepoFiles, Loaded]:
    """This machine's own files and all that is wrong with them. Raises ConfigurationError as `sources` does."""
    check_source(settings)
    given = sources(settings)
    found = build(given, before, FleetCache())
    agents = sum(1 for _ in found.fleet.agents())
    return given.files, Loaded(fleet=found.fleet, diagnostics=found.found, agents=agents)


def write_default(settings: Settings) -> bool:
    """TinyScheduler's default control file, where nothing says which agents there are; whether it was written."""
    path = settings.control_file
    rolled_back = path.with_name(f"{path.name}.disabled").exists()
    if settings.repo is not None or settings.agent_limits or path.exists() or rolled_back:
        return False
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(DEFAULT_CONTROL, encoding="utf-8")
    return True


def _files(folder: Path, besides: Mapping[str, bytes]) -> RepoFiles:
    """Every recipe below a folder, read at once so that text and hash are the same moment's. A link is its file."""
    texts = dict(besides)
    for name, place in _below(folder):
        try:
            with place.open("rb") as opened:
                data = opened.read(LARGEST + 1)  # one more byte is enough to call it too large
        except OSError:  # gone meanwhile, or a link to nothing
            continue
        texts[f"recipes/{name}"] = data
    entries = {
        path: RepoFile(path=path, blob=hashlib.sha256(data).hexdigest()[:40], size=len(data))
        for path, data in texts.items()
    }
    return RepoFiles(revision="", entries=entries, read=lambda file: texts[file.path])


def _below(folder: Path) -> Iterator[tuple[str, Path]]:
    for place, folders, names in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(names):
            if name.endswith((".yaml", ".json")):
                path = Path(place, name)
                yield path.relative_to(folder).as_posix(), path
