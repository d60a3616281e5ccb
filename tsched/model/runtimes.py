"""The runtimes that need no declaration: the headless command line of each agent we know.

Command lines checked by running goose 1.52.0, codex-cli 0.169.0, Claude Code 2.1.197 and opencode 1.18.33.
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
            argv=("claude", "-p", "{prompt}", "--output-format", "json"),
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
            argv=("codex", "exec", "--json", "--skip-git-repo-check", "{prompt}"),
            mcp=("-c", 'mcp_servers.tasks.url="{mcp}"'),
            evidence=Evidence.TOKENS,
        ),
        Runtime(name="opencode", argv=("opencode", "run", "--format", "json", "{prompt}"), evidence=Evidence.TOKENS),
    )
}


def runtime_of(name: str, own: Mapping[str, Runtime]) -> Runtime | None:
    """The fleet's own runtime of that name, else the built-in one, else None. The fleet's own replaces a built-in."""
    return own.get(name) or BUILT_IN.get(name)
