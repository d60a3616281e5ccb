"""Task servers, seen from the runner: one protocol, several implementations."""
