"""What the log says of a host without a fleet repo, in TinyScheduler's words."""

from tsched.observe import messages
from tsched.observe.entries import Level
from tsched.runner.fleets import HostFiles
from tsched.runner.record import Pass
from tsched.validate.installation import Installation


def standing(p: Pass, source: HostFiles) -> None:
    """The registry, or that this is legacy mode and why; recipes that are missing; what else is wrong.

    A control file that can't be used is an error of each pass until it is mended; the rest is said when it is new.
    """
    found = source.found
    if found is None:
        return
    if found.fault is not None:
        p.error("revision", f"Failed to load agent registry: {found.fault}")
    p.host.log.standing([*_registry(source.shown, found), *_remarks(found)])


def _registry(control_file: str, found: Installation) -> list[tuple[Level, str]]:
    if found.agents is None:
        absent = [] if found.fault is not None else [(Level.WARNING, messages.control_file_missing(control_file))]
        return [*absent, (Level.INFO, messages.LEGACY)]
    return [
        (Level.INFO, messages.loaded_registry(control_file)),
        (Level.INFO, messages.registered(list(found.agents))),
        (Level.INFO, messages.agent_types(list(dict.fromkeys(found.agents.values())))),
    ]


def _remarks(found: Installation) -> list[tuple[Level, str]]:
    others = [one for one in found.found if one != found.fault and one.path not in found.missing]
    return [
        *((Level.WARNING, one.message) for one in found.found if one.path in found.missing),
        *((Level.WARNING, str(one)) for one in others),
    ]
