"""The runtimes that need no declaration: the headless command line of each agent we know.

Checked by running goose 1.52.0, codex-cli 0.169.0, Claude Code 2.1.330 and opencode 1.18.33 (`make test-agents`).
Each writes as it goes, so that a silent agent is one that does nothing. None can ask a person: Claude Code and codex
refuse to change files and to call tools unless that was allowed beforehand.
"""

from collections.abc import Mapping

from tsched.model.fleet import Evidence, Runtime

BUILT_IN: Mapping[str, Runtime] = {
    runtime.name: runtime
    for runtime in (
        Runtime(
            name="goose",
            argv=("goose", "run", "--recipe", "{recipe}", "--no-session", "-q", "--output-format", "stream-json"),
            parameters="--params",
            mcp=("--with-streamable-http-extension", "{mcp}"),
            evidence=Evidence.TOKENS,
        ),
        Runtime(
            name="claude",
            argv=(
                *("claude", "-p", "{prompt}", "--output-format", "stream-json", "--verbose"),
                *("--permission-mode", "acceptEdits", "--allowedTools", "Bash,Edit,Write,NotebookEdit"),
            ),
            mcp=(
                "--mcp-config",
                '{"mcpServers":{"tasks":{"type":"http","url":"{mcp}"}}}',
                "--allowedTools",
                "mcp__tasks",
            ),
            evidence=Evidence.TOKENS,
        ),
        Runtime(
            name="codex",
            argv=("codex", "exec", "--json", "--skip-git-repo-check", "--sandbox", "workspace-write", "{prompt}"),
            mcp=(
                *("-c", 'mcp_servers.tasks.url="{mcp}"'),
                *("-c", 'mcp_servers.tasks.default_tools_approval_mode="approve"'),
            ),
            evidence=Evidence.TOKENS,
        ),
        Runtime(
            name="opencode",
            argv=("opencode", "run", "--format", "json", "{prompt}"),
            mcp_config=(
                "OPENCODE_CONFIG_CONTENT",
                '{"mcp":{"tasks":{"type":"remote","url":"{mcp}","enabled":true}}}',
            ),
            evidence=Evidence.TOKENS,
        ),
    )
}


def runtime_of(name: str, own: Mapping[str, Runtime]) -> Runtime | None:
    """The fleet's own runtime of that name, else the built-in one, else None. The fleet's own replaces a built-in."""
    return own.get(name) or BUILT_IN.get(name)
