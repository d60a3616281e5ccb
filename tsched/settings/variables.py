"""Which variables set what, and where a value came from."""

from collections.abc import Mapping
from enum import StrEnum
from typing import Final

from tsched.model.records import dataclass

# Every setting with the variables that set it, the newer name first. The reference documentation is compared with it.
VARIABLES: Final[Mapping[str, tuple[str, ...]]] = {
    "base_path": ("TSCHED_BASE_PATH", "TINYSCHEDULER_BASE_PATH"),
    "env_file": ("TSCHED_ENV_FILE",),
    "repo": ("TSCHED_REPO",),
    "branch": ("TSCHED_BRANCH",),
    "state": ("TSCHED_STATE",),
    "tasks": ("TSCHED_TASKS", "TINYSCHEDULER_MCP_ENDPOINT"),
    "tasks_token": ("TSCHED_TASKS_TOKEN",),
    "tasks_mcp": ("TSCHED_TASKS_MCP",),
    "github_on_complete": ("TSCHED_GITHUB_ON_COMPLETE",),
    "pools": ("TSCHED_POOLS",),
    "allowed_signers": ("TSCHED_ALLOWED_SIGNERS",),
    "allow_rewrite": ("TSCHED_ALLOW_REWRITE",),
    "pass_env": ("TSCHED_PASS_ENV",),
    "webhook_secret": ("TSCHED_WEBHOOK_SECRET",),
    "status_token": ("TSCHED_STATUS_TOKEN",),
    "serve_token": ("TSCHED_SERVE_TOKEN",),
    "serve_url": ("TSCHED_SERVE_URL",),
    "keep_days": ("TSCHED_KEEP_DAYS",),
    "run_log_max": ("TSCHED_RUN_LOG_MAX",),
    "agent_user": ("TSCHED_AGENT_USER",),
    "log_level": ("TSCHED_LOG_LEVEL", "TINYSCHEDULER_LOG_LEVEL"),
    "log_format": ("TSCHED_LOG_FORMAT",),
    "dry_run": ("TSCHED_DRY_RUN", "TINYSCHEDULER_DRY_RUN"),
    "enabled": ("TSCHED_ENABLED", "TINYSCHEDULER_ENABLED"),
    "disable_blocking": ("TSCHED_DISABLE_BLOCKING", "TINYSCHEDULER_DISABLE_BLOCKING"),
    "loop_interval": ("TSCHED_LOOP_INTERVAL", "TINYSCHEDULER_LOOP_INTERVAL_SEC"),
    "heartbeat": ("TSCHED_HEARTBEAT", "TINYSCHEDULER_HEARTBEAT_SEC"),
    "max_runtime": ("TSCHED_MAX_RUNTIME", "TINYSCHEDULER_MAX_RUNTIME_SEC"),
    "agent_limits": ("TSCHED_AGENT_LIMITS", "TINYSCHEDULER_AGENT_LIMITS"),
    "control_file": ("TSCHED_AGENT_CONTROL_FILE", "TINYSCHEDULER_AGENT_CONTROL_FILE"),
    "goose_bin": ("TSCHED_GOOSE_BIN", "TINYSCHEDULER_GOOSE_BIN"),
    "running_dir": ("TSCHED_RUNNING_DIR", "TINYSCHEDULER_RUNNING_DIR"),
    "log_dir": ("TSCHED_LOG_DIR", "TINYSCHEDULER_LOG_DIR"),
    "operator_folder": ("TSCHED_OPERATOR_FOLDER",),
    "recipes_dir": ("TSCHED_RECIPES_DIR", "TINYSCHEDULER_RECIPES_DIR"),
    "bin_dir": ("TSCHED_BIN_DIR", "TINYSCHEDULER_BIN_DIR"),
    "task_cache_dir": ("TSCHED_TASK_CACHE_DIR", "TINYSCHEDULER_TASK_CACHE_DIR"),
    "lock_file": ("TSCHED_LOCK_FILE", "TINYSCHEDULER_LOCK_FILE"),
}


class Origin(StrEnum):
    FLAG = "flag"
    ENVIRONMENT = "environment"
    ENV_FILE = "env file"
    DEFAULT = "default"


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """Where a value came from: `name` is the flag or variable ("" for a default).

    `overruled`: the text of a figure that was found there but that git decides instead.
    """

    origin: Origin = Origin.DEFAULT
    name: str = ""
    overruled: str | None = None

    def __str__(self) -> str:
        words = self.origin.value if not self.name else f"{self.origin} {self.name}"
        return words if self.overruled is None else f"{words}={self.overruled} (not used: git wins)"
