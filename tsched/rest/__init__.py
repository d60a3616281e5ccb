"""Careful HTTP for the APIs of forges: time limits, few retries, paging, no token where it does not belong."""
