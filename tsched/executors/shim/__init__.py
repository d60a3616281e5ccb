"""The parent of one local run: fences its start, guards its lease, stops it in time, records its end.

Run as `python -I -S shim.py RUN_FOLDER`, in a session of its own. DESIGN section 4 is its law. `life.py` has the
order of things, `stop.py` what may end them, `children.py` and `child.py` how a program is started.
"""
