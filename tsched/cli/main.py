"""The command line (being built)."""


def run() -> None:
    """Entry point."""
