"""What is known of clusters: the Jobs and pods of a runner in a namespace, by run, and why nothing is known."""

from collections.abc import Iterable, Mapping, Sequence
from types import MappingProxyType

from tsched.executors import durable
from tsched.executors.kubernetes import job as jobs
from tsched.executors.kubernetes import words
from tsched.executors.kubernetes.api import Api
from tsched.executors.kubernetes.job import JSON
from tsched.executors.kubernetes.run import PodRun
from tsched.executors.kubernetes.watch import View
from tsched.executors.kubernetes.words import Job, Pod
from tsched.model.errors import ConfigurationError, TransientError

TOO_OLD = "the cluster might start a second pod beside the first: Kubernetes 1.29 or newer is needed"


class Cluster:
    """An API server and a picture of what it has of ours. `trouble`: why the newest look at it failed, "" if not."""

    def __init__(self, api: Api, owner: str) -> None:
        self.api, self.trouble = api, ""
        self._owner, self._proven = owner, False
        self._selector = jobs.selector(owner)
        self._jobs = View(api, "jobs", self._selector)
        self._pods = View(api, "pods", self._selector)
        self._found: Mapping[str, JSON] = MappingProxyType({})  # Jobs by name
        self._of: Mapping[str, JSON] = MappingProxyType({})  # pods by run

    def prove(self) -> None:
        """See to it, once, that it knows of what keeps a run to one pod: an older server just leaves that out.

        Before any Job is made: its agent might begin before it is taken back. Raises TransientError, and
        ConfigurationError where it is too old.
        """
        if not self._proven and not words.job_of(self.api.rehearse(jobs.probe(self._owner))).one_pod:
            raise ConfigurationError(TOO_OLD)
        self._proven = True

    def look(self, *, watch: bool) -> None:
        """At Jobs, then at pods. Each is as it was at some moment: together they need not agree."""
        try:
            self._found = self._jobs.look(watch=watch)
            pods = self._pods.look(watch=watch)
            self._of, self.trouble = words.newest(list(pods.values())), ""
        except (TransientError, ConfigurationError) as error:
            self.trouble = f"Kubernetes can't be asked: {error}"

    def job(self, run_id: str) -> Job | None:
        """A run's Job in that picture."""
        found = self._found.get(jobs.name_of(run_id))
        return None if found is None else words.job_of(found)

    def pod(self, run_id: str) -> Pod | None:
        """A run's pod in that picture; one that is gone as it was seen last."""
        found = self._pods.last(run_id) or self._of.get(run_id)
        return None if found is None else words.pod_of(found)

    def made(self, job: JSON) -> None:
        """A Job that is there, whatever the picture says."""
        self._jobs.put(job)
        self._found = {**self._found, jobs.name_of(words.run_of(job)): job}

    def left(self, run_id: str) -> Sequence[Pod]:
        """The pods of a run that there are, the newest last, by the API server's own word. Raises TransientError."""
        found, _ = self.api.list("pods", f"{self._selector},job-name={jobs.name_of(run_id)}")
        return [words.pod_of(one) for one in words.by_age(found)]


class Clusters:
    """Those that runs are in, each spoken to once it is needed. `environ`: the host's."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        self._environ = environ
        self._known: dict[tuple[str, str, str], Cluster] = {}  # by context, namespace ("": the context's) and owner
        self._places: dict[str, tuple[str, str, str]] = {}  # by run
        self._unusable = ""  # why some can't be spoken to from here

    def at(self, context: str, namespace: str, owner: str) -> Cluster:
        """Raises ConfigurationError where it can't be spoken to from here."""
        key = (context, namespace, owner)
        if key not in self._known:
            api = Api(context, namespace, self._environ)
            named = (context, api.place.namespace, owner)
            self._known[key] = self._known[named] = self._known.get(named) or Cluster(api, owner)
        return self._known[key]

    def of(self, run: PodRun) -> Cluster | None:
        """A run's; None where it can't be spoken to from here."""
        if run.run_id not in self._places:
            record, owner = durable.record(run.record) or {}, words.owner_of(run.job)
            self._places[run.run_id] = (str(record.get("context", "")), str(record.get("namespace", "")), owner)
        try:
            return self.at(*self._places[run.run_id])
        except ConfigurationError as error:
            self._unusable = str(error)
            return None

    def look(self, runs: Iterable[PodRun], *, watch: bool) -> frozenset[str]:
        """At those that the runs are in, and those that gave no answer the last time. Returns the runs' ids."""
        self._unusable = ""
        wanted = {run.run_id: self.of(run) for run in runs}
        found = [one for one in wanted.values() if one is not None]
        for cluster in {
            id(one): one for one in (*found, *self._known.values()) if one in found or one.trouble
        }.values():
            cluster.look(watch=watch)
        for run_id in self._places.keys() - wanted.keys():
            del self._places[run_id]
        return frozenset(wanted)

    @property
    def trouble(self) -> str:
        """Why nothing, or too little, is known of some; "" where there is no such one."""
        said = dict.fromkeys((self._unusable, *(one.trouble for one in self._known.values())))
        return "; ".join(filter(None, said))
