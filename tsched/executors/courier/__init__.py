"""On a cluster's node that shares no folder with the runner: fetches a run, starts its shim, carries word both ways.

A job brings these files (parcel.py) and runs program.py; courier.py has the order of things, line.py whom it asks.
Only the standard library: the node has nothing of ours.
"""
