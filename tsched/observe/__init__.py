"""What people and programs are shown: the operator's log, status, tables."""
