"""`python -m tsched` is the command line."""

from tsched.cli.main import run

run()
