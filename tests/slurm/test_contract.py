"""The contract of executors, over jobs of a real Slurm."""

from tests.integration.executor_contract import ExecutorContract


class TestSlurm(ExecutorContract):
    pass
