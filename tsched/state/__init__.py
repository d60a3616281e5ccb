"""What the runner remembers: leases, the applied record, history, events, requests, and the lock."""
