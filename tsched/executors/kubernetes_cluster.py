"""What is known of one cluster: the Jobs and pods of a runner in a namespace, by run, and why nothing is known."""

from collections.abc import Mapping, Sequence
from types import MappingProxyType

from tsched.executors import kubernetes_job as jobs
from tsched.executors import kubernetes_words as words
from tsched.executors.kubernetes_api import Api
from tsched.executors.kubernetes_job import JSON
from tsched.executors.kubernetes_watch import View
from tsched.executors.kubernetes_words import Job, Pod
from tsched.model.errors import ConfigurationError, TransientError


class Cluster:
    """An API server and a picture of what it has of ours. `trouble`: why the newest look at it failed, "" if not."""

    def __init__(self, api: Api, owner: str) -> None:
        self.api, self.trouble = api, ""
        self._selector = jobs.selector(owner)
        self._jobs = View(api, "jobs", self._selector)
        self._pods = View(api, "pods", self._selector)
        self._found: Mapping[str, JSON] = MappingProxyType({})  # Jobs by name
        self._of: Mapping[str, JSON] = MappingProxyType({})  # pods by run

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
