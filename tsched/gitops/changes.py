"""What one command changes in a fleet's files: path → new text, or None where the file goes. Pure."""

import difflib
from collections.abc import Mapping
from dataclasses import dataclass

from tsched.gitops import edit
from tsched.model.errors import ConfigurationError
from tsched.model.files import FileKind, RepoFiles
from tsched.validate.fix import fix
from tsched.validate.source import parse

Changes = Mapping[str, str | None]
Setting = str | int


@dataclass(frozen=True, slots=True, kw_only=True)
class PoolFile:
    """A pool's file as it is: where, its text, and the names of its agents."""

    path: str
    text: str
    name: str
    agents: tuple[str, ...]


class FleetFiles:
    """The pools of a folder or revision, to be changed. Files that can't be read are left out."""

    def __init__(self, files: RepoFiles) -> None:
        self._files = files
        self._pools = {pool.name: pool for path in files.entries if (pool := self._read(path)) is not None}

    def _read(self, path: str) -> PoolFile | None:
        file = self._files.entries[path]
        if not path.startswith("pools/") or file.kind is not FileKind.FILE:
            return None
        data = self._files.read(file)
        value = parse(path, data).value
        if not isinstance(value, dict) or value.get("kind") != "Pool":
            return None
        listed = value.get("agents")
        agents = [one.get("name") for one in listed if isinstance(one, dict)] if isinstance(listed, list) else []
        return PoolFile(path=path, text=data.decode(), name=str(value.get("name")), agents=tuple(map(str, agents)))

    def pool(self, name: str) -> PoolFile:
        """A pool by its name. Raises ConfigurationError where there is none, with the nearest."""
        if name not in self._pools:
            raise ConfigurationError(f"there is no pool {name}{_near(name, self._pools)}")
        return self._pools[name]

    def home(self, agent: str) -> PoolFile:
        """The pool that an agent stands in. Raises ConfigurationError where it is in none, with the nearest."""
        for pool in self._pools.values():
            if agent in pool.agents:
                return pool
        known = [one for pool in self._pools.values() for one in pool.agents]
        raise ConfigurationError(f"there is no agent {agent}{_near(agent, known)}")

    def add_agent(self, name: str, pool: str, fields: Mapping[str, Setting]) -> Changes:
        """A new agent at the end of a pool."""
        for other in self._pools.values():
            if name in other.agents:
                raise ConfigurationError(f"the agent {name} stands in pool {other.name} already")
        target = self.pool(pool)
        return {target.path: edit.add_agent(target.text, name=name, fields=fields)}

    def remove_agent(self, name: str, *, with_recipe: bool = False) -> Changes:
        """An agent taken out; with its recipe where no other agent's default names that file."""
        home = self.home(name)
        recipe = edit.get_agent(home.text, name).get("recipe", f"{name}.yaml")
        changes: dict[str, str | None] = {home.path: edit.remove_agent(home.text, name)}
        if with_recipe and f"recipes/{recipe}" in self._files.entries:
            users = [
                one for pool in self._pools.values() for one in pool.agents
                if edit.get_agent(pool.text, one).get("recipe", f"{one}.yaml") == recipe
            ]  # fmt: skip
            if users == [name]:
                changes[f"recipes/{recipe}"] = None
        return changes

    def move_agent(self, name: str, pool: str) -> Changes:
        """An agent with all its settings into another pool."""
        home, target = self.home(name), self.pool(pool)
        if home.name == target.name:
            raise ConfigurationError(f"the agent {name} stands in pool {pool} already")
        fields = {key: value for key, value in edit.get_agent(home.text, name).items() if key != "name"}
        plain = {key: value for key, value in fields.items() if isinstance(value, str | int)}
        return {
            home.path: edit.remove_agent(home.text, name),
            target.path: edit.add_agent(target.text, name=name, fields=plain),
        }

    def set_agent(self, name: str, key: str, value: Setting) -> Changes:
        """One setting of an agent."""
        home = self.home(name)
        changed = edit.set_agent(home.text, name, key, value)
        return {home.path: tidied(home.path, home.text, changed)}

    def set_limits(self, limits: Mapping[str, int]) -> Changes:
        """Several agents' limits at once."""
        changed: dict[str, tuple[PoolFile, str]] = {}
        for name, limit in limits.items():
            home = self.home(name)
            text = changed.get(home.path, (home, home.text))[1]
            changed[home.path] = home, edit.set_agent(text, name, "limit", limit)
        return {path: tidied(path, home.text, text) for path, (home, text) in changed.items()}

    def add_pool(self, name: str, *, queue: str | None = None, runtime: str | None = None) -> Changes:
        """A new pool in a file of its name."""
        path = f"pools/{name}.yaml"
        if name in self._pools or path in self._files.entries:
            raise ConfigurationError(f"there is a pool {name} already, or a file {path}")
        return {path: edit.new_pool(name, queue=queue, runtime=runtime)}

    def remove_pool(self, name: str) -> Changes:
        """A pool's file taken away."""
        return {self.pool(name).path: None}

    def suspend_pool(self, name: str, *, until: str | None = None, reason: str | None = None) -> Changes:
        """A pool that takes no new task."""
        pool = self.pool(name)
        said = {key: value for key, value in (("until", until), ("reason", reason)) if value is not None}
        suspended = edit.set_pool(pool.text, "suspend", said or True)
        return {pool.path: tidied(pool.path, pool.text, suspended)}

    def resume_pool(self, name: str) -> Changes:
        """A pool that takes tasks again."""
        pool = self.pool(name)
        value = parse(pool.path, pool.text.encode()).value
        if not isinstance(value, dict) or value.get("suspend", False) is False:
            raise ConfigurationError(f"the pool {name} is not suspended")
        return {pool.path: edit.unset_pool(pool.text, "suspend")}


def tidied(path: str, before: str, after: str) -> str:
    """The changed text with its keys in order, where they were in order before."""
    return fix(path, after).text if not fix(path, before).changes else after


def _near(name: str, known: "Mapping[str, object] | list[str]") -> str:
    near = difflib.get_close_matches(name, known, 1)
    return f": did you mean {near[0]}?" if near else f" (there are {', '.join(sorted(known)) or 'none'})"
