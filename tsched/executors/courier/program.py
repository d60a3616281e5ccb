"""The program of the courier: `python -I -S program.py FOLDER ADDRESS RUN_ID RUNNER_ID`, started by a run's job.

FOLDER is a state folder of this one run: the shim works in it as on any machine and knows of no network. Like shim.py
this file makes a package of its own folder, and no other is searched for modules.
"""

import os
import sys

if __name__ == "__main__":
    __package__ = "__main__"
    __path__ = [os.path.dirname(os.path.abspath(__file__))]
    from .courier import main

    sys.exit(main(*sys.argv[1:]))
