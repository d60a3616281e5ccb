"""On a cluster's node that shares no folder with the runner: fetches a run, starts its shim, carries word both ways.

A job brings these files (parcel.py) and runs courier.py. Only the standard library: the node has nothing of ours.
"""
