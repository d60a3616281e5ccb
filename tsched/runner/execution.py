"""Where this host's runs execute: each where its agent says."""

from tsched.executors.kubernetes.executor import KubernetesExecutor
from tsched.executors.runtimes import TASKS_MCP
from tsched.runner.sources import mcp_of
from tsched.settings import Settings
from tsched.state.folder import StateFolder


def executor_of(settings: Settings, folder: StateFolder) -> KubernetesExecutor:
    """The local machine and the clusters that it knows, with this host's environment.

    Agents are told where the task server's MCP tools are.
    """
    mcp = mcp_of(settings)
    told = {} if mcp is None else {TASKS_MCP: mcp}
    return KubernetesExecutor(
        runs=folder.runs,
        running=folder.running,
        logs=folder.run_logs,
        workspaces=folder.workspaces,
        environ={**settings.environ, **told},
        pass_env=(*settings.pass_env, *told),
        log_max=settings.run_log_max,
        agent_user=settings.agent_user,
        address=settings.serve_url or "",
    )
