"""The one exception root; its three branches say what the caller does."""


class TschedError(Exception):
    """Anything tsched itself refuses or cannot do. The text is one line for a person: what, where, the mend."""


class ConfigurationError(TschedError):
    """What a person wrote is wrong: keep the last good state, tell them, do not retry by yourself."""


class TransientError(TschedError):
    """The world is not there just now (a remote, a task server): try again later, lose nothing."""


class FatalError(TschedError):
    """Going on would break a promise: stop and say why."""
