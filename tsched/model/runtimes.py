"""The runtimes that need no declaration: the headless command line of each agent we know.

Checked by running goose 1.52.0, codex-cli 0.169.0, Claude Code 2.1.330 and opencode 1.18.33 (`make test-agents`).
Each writes as it goes, so that a silent agent is one that does nothing. None can ask a person: Claude Code and codex
refuse to change files and to call tools unless that was allowed beforehand. All four can go on with a conversation,
in the folder where it began: elsewhere opencode does the work and never ends, and goose's shell finds no folder.
"""

from collections.abc import Mapping
from dataclasses import replace

from tsched.model.fleet import Evidence, Runtime

BUILT_IN: Mapping[str, Runtime] = {
    runtime.name: runtime
    for runtime in (
        Runtime(
            name="goose",
            argv=("goose", "run", "--recipe", "{recipe}", "--no-session", "-q", "--output-format", "stream-json"),
            opening=(
                *("goose", "run", "--recipe", "{recipe}", "--name", "{run_id}", "-q"),
                *("--output-format", "stream-json"),
            ),
            resume=(
                *("goose", "run", "--resume", "--name", "{session}", "-q"),
                *("--output-format", "stream-json", "-t", "{prompt}"),
            ),
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
            resume=(
                *("claude", "--resume", "{session}", "-p", "{prompt}", "--output-format", "stream-json", "--verbose"),
                *("--permission-mode", "acceptEdits", "--allowedTools", "Bash,Edit,Write,NotebookEdit"),
            ),
            mcp=(
                "--mcp-config",
                '{"mcpServers":{"tasks":{"type":"http","url":"{mcp}"{mcp_auth}}}}',
                "--allowedTools",
                "mcp__tasks",
            ),
            mcp_auth=',"headers":{"Authorization":"Bearer ${TSCHED_TASKS_TOKEN}"}',
            evidence=Evidence.TOKENS,
        ),
        Runtime(
            name="codex",
            argv=("codex", "exec", "--json", "--skip-git-repo-check", "--sandbox", "workspace-write", "{prompt}"),
            resume=(
                *("codex", "exec", "resume", "--json", "--skip-git-repo-check"),
                *("-c", 'sandbox_mode="workspace-write"', "{session}", "{prompt}"),
            ),
            mcp=("-c", 'mcp_servers.tasks={url="{mcp}",default_tools_approval_mode="approve"{mcp_auth}}'),
            mcp_auth=',bearer_token_env_var="TSCHED_TASKS_TOKEN"',
            evidence=Evidence.TOKENS,
        ),
        Runtime(
            name="opencode",
            argv=("opencode", "run", "--format", "json", "{prompt}"),
            resume=("opencode", "run", "--format", "json", "--session", "{session}", "{prompt}"),
            mcp_config=(
                "OPENCODE_CONFIG_CONTENT",
                '{"mcp":{"tasks":{"type":"remote","url":"{mcp}","enabled":true{mcp_auth}}}}',
            ),
            mcp_auth=',"headers":{"Authorization":"Bearer {env:TSCHED_TASKS_TOKEN}"}',
            evidence=Evidence.TOKENS,
        ),
    )
}


def runtime_of(name: str, own: Mapping[str, Runtime]) -> Runtime | None:
    """The fleet's own runtime of that name, else the built-in one, else None. The fleet's own replaces a built-in."""
    return own.get(name) or BUILT_IN.get(name)


def with_goose(runtime: Runtime, program: str | None) -> Runtime:
    """The runtime, with the goose that TINYSCHEDULER_GOOSE_BIN names where it is the built-in one."""
    if program is None or runtime != BUILT_IN["goose"]:
        return runtime
    argv, opening, resume = ((program, *words[1:]) for words in (runtime.argv, runtime.opening, runtime.resume))
    return replace(runtime, argv=argv, opening=opening, resume=resume)
