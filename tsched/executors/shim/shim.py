"""The program of the shim: `python -I -S shim.py RUN_FOLDER [depart | kept]`, or `shim.py serve ROOM`: see forks.py.

As all scripts it is compiled at each start, so it is nearly nothing. The modules beside it are compiled once, into
`__pycache__`: by pip, when tsched is installed; else by the first shim that may write there; where none may, each
start takes two to three times as long, and nothing else changes. Started so, it is a package of its own: its folder
alone is searched for them, and nothing of tsched's is imported.

All of them are imported here, before the run begins, none later: an upgrade may take the files away under a living
run. A shim that starts just then and misses a module ends before its fence, as if it had never been started.
"""

import os
import sys

if __name__ == "__main__":
    __package__ = "__main__"
    __path__ = [os.path.dirname(os.path.abspath(__file__))]
    folder, words = sys.argv[1], sys.argv[2:]
    if folder == "serve":
        from .forks import serve

        sys.exit(serve(*words))
    if words == ["kept"]:
        from .keeper import keep

        sys.exit(keep(folder))
    from .life import main

    sys.exit(main(folder, departing=words == ["depart"]))
