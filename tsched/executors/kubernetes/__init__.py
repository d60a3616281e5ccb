"""Runs as Jobs of a Kubernetes cluster, experimental: executor.py is what a runner sees of it."""
