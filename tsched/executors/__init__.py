"""Where runs execute: one protocol; `local` starts processes on this machine."""
