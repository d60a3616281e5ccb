"""The typed difference between two fleets, and its laws: apply(a, diff(a, b)) == b, and inverse undoes it."""

from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import fields, replace
from typing import Generic, TypeVar

from tsched.model.fleet import Agent, Fleet, Limits, Pool, Recipe, Runtime
from tsched.model.records import dataclass

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


@dataclass(frozen=True, slots=True, kw_only=True)
class Delta(Generic[K, V]):
    """A keyed difference: what was added, what was removed, and (old, new) of what changed."""

    added: Mapping[K, V]
    removed: Mapping[K, V]
    changed: Mapping[K, tuple[V, V]]


def keyed(old: Mapping[K, V], new: Mapping[K, V]) -> Delta[K, V]:
    """Compare two mappings by key. Order follows `new`, then `old`. What is the same object is equal."""
    if old is new:
        return Delta(added={}, removed={}, changed={})
    other = {key: value for key, value in new.items() if old.get(key) is not value}
    return Delta(
        added={key: value for key, value in other.items() if key not in old},
        removed={key: value for key, value in old.items() if key not in new},
        changed={key: (old[key], value) for key, value in other.items() if key in old and old[key] != value},
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class PoolChange:
    """A pool as a whole, its agents left out. old None: added; new None: removed. Keyed by queue: another name on the
    same queue is a rename."""

    old: Pool | None
    new: Pool | None

    @property
    def kind(self) -> str:
        match self.old, self.new:
            case None, _:
                return "pool.added"
            case _, None:
                return "pool.removed"
            case Pool(name=before), Pool(name=after) if before != after:
                return "pool.renamed"
            case Pool(queue=before), Pool(queue=after) if before != after:
                return "pool.queue"
            case _:
                return "pool.changed"

    @property
    def subject(self) -> str:
        pool = self.new or self.old
        return f"pool/{pool.name if pool is not None else ''}"


@dataclass(frozen=True, slots=True, kw_only=True)
class AgentChange:
    """An agent with the pool it stands in. old None: added; new None: removed."""

    name: str
    old: Agent | None
    new: Agent | None
    old_pool: str | None
    new_pool: str | None
    old_queue: str | None
    new_queue: str | None
    moved: bool = False  # to another pool, not merely with its pool

    @property
    def kind(self) -> str:
        return "agent.moved" if self.moved else _kind("agent", self.old, self.new)

    @property
    def subject(self) -> str:
        return f"agent/{self.name}"


@dataclass(frozen=True, slots=True, kw_only=True)
class LimitsChange:
    """One fleet-wide setting."""

    key: str
    old: Limits
    new: Limits

    @property
    def kind(self) -> str:
        return "limits.changed"

    @property
    def subject(self) -> str:
        return f"limits/{self.key}"


@dataclass(frozen=True, slots=True, kw_only=True)
class RuntimeChange:
    """A runtime of the fleet's own."""

    name: str
    old: Runtime | None
    new: Runtime | None

    @property
    def kind(self) -> str:
        return _kind("runtime", self.old, self.new)

    @property
    def subject(self) -> str:
        return f"runtime/{self.name}"


@dataclass(frozen=True, slots=True, kw_only=True)
class RecipeChange:
    """A recipe's content (its own file or a sub-recipe's)."""

    path: str
    old: Recipe | None
    new: Recipe | None

    @property
    def kind(self) -> str:
        return _kind("recipe", self.old, self.new)

    @property
    def subject(self) -> str:
        return f"recipe/{self.path.removeprefix('recipes/')}"


Change = PoolChange | AgentChange | LimitsChange | RuntimeChange | RecipeChange


def _kind(noun: str, old: object, new: object) -> str:
    return f"{noun}.added" if old is None else f"{noun}.removed" if new is None else f"{noun}.changed"


def diff(old: Fleet | None, new: Fleet) -> tuple[Change, ...]:
    """Every difference, in a fixed order: limits, runtimes, pools, agents, recipes. No old fleet: all is added."""
    before = old if old is not None else Fleet(revision="", limits=new.limits)
    pools = tuple(_pools(before, new))
    return (
        *_limits(before.limits, new.limits),
        *_pairs(
            keyed(before.limits.runtimes, new.limits.runtimes), lambda k, a, b: RuntimeChange(name=k, old=a, new=b)
        ),
        *pools,
        *_agents(before, new, {change.old.name: change.new for change in pools if change.old is not None}),
        *_pairs(keyed(before.recipes, new.recipes), lambda k, a, b: RecipeChange(path=k, old=a, new=b)),
    )


def _pairs(delta: Delta[K, V], make: Callable[[K, V | None, V | None], Change]) -> Iterable[Change]:
    for key, value in delta.removed.items():
        yield make(key, value, None)
    for key, value in delta.added.items():
        yield make(key, None, value)
    for key, (before, after) in delta.changed.items():
        yield make(key, before, after)


def _limits(old: Limits, new: Limits) -> Iterable[LimitsChange]:
    if old == new:
        return
    for key in (f.name for f in fields(Limits) if f.name != "runtimes"):
        if getattr(old, key) != getattr(new, key):
            yield LimitsChange(key=key, old=old, new=new)


def _shell(pool: Pool) -> Pool:
    return replace(pool, agents=())


def _pools(old: Fleet, new: Fleet) -> Iterable[PoolChange]:
    """Pools are the same one where the queue is the same, else where the name is."""
    before = {pool.queue: pool for pool in old.pools}
    after = {pool.queue: pool for pool in new.pools}
    gone = {pool.name: pool for queue, pool in before.items() if queue not in after}
    for queue, pool in after.items():
        same = before.get(queue) or gone.pop(pool.name, None)
        if same is pool:
            continue
        if same is None:
            yield PoolChange(old=None, new=_shell(pool))
        elif _shell(same) != _shell(pool):
            yield PoolChange(old=_shell(same), new=_shell(pool))
    for pool in gone.values():
        yield PoolChange(old=_shell(pool), new=None)


def _agents(old: Fleet, new: Fleet, became: Mapping[str, Pool | None]) -> Iterable[AgentChange]:
    """`became`: what each changed or removed pool of `old` is in `new`. A pool's new name or queue moves no agent."""
    by_name = {pool.name: pool for pool in old.pools}
    same = {pool.name for pool in new.pools if pool.name not in became and by_name.get(pool.name) == pool}
    before = {agent.name: (pool, agent) for pool in old.pools if pool.name not in same for agent in pool.agents}
    after = {agent.name: (pool, agent) for pool in new.pools if pool.name not in same for agent in pool.agents}
    for name in sorted(before.keys() | after.keys()):
        (pool_a, a), (pool_b, b) = before.get(name, (None, None)), after.get(name, (None, None))
        home = pool_a and became.get(pool_a.name, pool_a)
        if a == b and home is not None and pool_b is not None and home.name == pool_b.name:
            continue
        yield AgentChange(
            name=name,
            old=a,
            new=b,
            old_pool=pool_a.name if pool_a else None,
            new_pool=pool_b.name if pool_b else None,
            old_queue=pool_a.queue if pool_a else None,
            new_queue=pool_b.queue if pool_b else None,
            moved=pool_a is not None and pool_b is not None and (home is None or home.name != pool_b.name),
        )


def inverse(changes: Iterable[Change]) -> tuple[Change, ...]:
    """The changes that lead back."""
    return tuple(_inverted(change) for change in changes)


def _inverted(change: Change) -> Change:
    match change:
        case AgentChange():
            return replace(
                change, old=change.new, new=change.old, old_pool=change.new_pool, new_pool=change.old_pool,
                old_queue=change.new_queue, new_queue=change.old_queue,
            )  # fmt: skip
        case PoolChange() | LimitsChange() | RuntimeChange() | RecipeChange():
            return replace(change, old=change.new, new=change.old)  # type: ignore[arg-type]  # same class both sides


def apply(fleet: Fleet, changes: Sequence[Change]) -> Fleet:
    """The fleet after the changes. Pools and agents come out sorted by name, as they are loaded."""
    limits, runtimes, recipes = fleet.limits, dict(fleet.limits.runtimes), dict(fleet.recipes)
    pools, became = _apply_pools(fleet, changes)
    agents = {agent.name: (became.get(pool.name, pool.name), agent) for pool, agent in fleet.agents()}
    for change in changes:
        match change:
            case LimitsChange():
                limits = replace(limits, **{change.key: getattr(change.new, change.key)})
            case RuntimeChange():
                _put(runtimes, change.name, change.new)
            case RecipeChange():
                _put(recipes, change.path, change.new)
            case AgentChange():
                if change.new is None or change.new_pool is None:
                    del agents[change.name]
                else:
                    agents[change.name] = (change.new_pool, change.new)
            case PoolChange():
                pass
    members: dict[str, list[Agent]] = {name: [] for name in pools}
    for name in sorted(agents):
        pool, agent = agents[name]
        members[pool].append(agent)
    whole = tuple(replace(pools[name], agents=tuple(members[name])) for name in sorted(pools))
    return replace(fleet, pools=whole, limits=replace(limits, runtimes=runtimes), recipes=recipes)


def _apply_pools(fleet: Fleet, changes: Sequence[Change]) -> tuple[dict[str, Pool], dict[str, str]]:
    """The pools without agents, and the new name of each that changed."""
    ours = [change for change in changes if isinstance(change, PoolChange)]
    gone = {change.old.name for change in ours if change.old is not None}
    pools = {pool.name: _shell(pool) for pool in fleet.pools if pool.name not in gone}
    pools.update((change.new.name, change.new) for change in ours if change.new is not None)
    became = {c.old.name: c.new.name for c in ours if c.old is not None and c.new is not None}
    return pools, became


def _put(target: dict[K, V], key: K, value: V | None) -> None:
    if value is None:
        target.pop(key, None)
    else:
        target[key] = value
