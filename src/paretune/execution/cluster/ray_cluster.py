"""Ray: each assignment is a Ray task with its own processors, memory or GPU.

The only file that imports ray. Tasks send through a small actor on the machine of the owner of the
store.
"""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Any

from paretune.errors import ParetuneError, StudyError, explain_missing, spell_option
from paretune.execution.cluster.executor import Assignment, Event, RunEvent, TaskEnded
from paretune.execution.cluster.node import execute_assignment
from paretune.execution.worker_settings import WorkerSettings
from paretune.terminal.rich_console import drop_output_of

# The version that the cluster has.
with explain_missing("ray>=2.40,<3", spell_option("executor", "ray")):
    import ray
    from ray import exceptions
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

CONNECT_SECONDS = 10.0

Execute = Callable[[Assignment, Callable[[Sequence[RunEvent]], bool]], str | None]
"""As :func:`~paretune.execution.cluster.node.execute_assignment`."""


class _Mailbox:
    """An actor: keeps what tasks send until the owner of the store has received it.

    Ray repeats a call whose connection broke. So what was taken is there until the next call says
    that it was received; and what is posted twice is the end of a run that has ended already.
    """

    def __init__(self) -> None:
        self._events: list[RunEvent] = []
        self._received = 0
        self._hosts: dict[int, str] = {}
        self._stop = False

    def post(self, number: int, host: str, events: Sequence[RunEvent]) -> bool:
        """Keep events of a task; returns whether it is to stop."""
        self._hosts[number] = host
        self._events += events
        return self._stop

    def take(self, received: int) -> tuple[list[RunEvent], dict[int, str]]:
        """Events after the first ``received`` of all, and the host of every task that has begun."""
        del self._events[: received - self._received]
        self._received = received
        return self._events, self._hosts

    def request_stop(self) -> None:
        """Let every task know with its next post."""
        self._stop = True


def _run_task(
    assignment: Assignment, mailbox: Any, execute: Execute, files: Mapping[str, Any]
) -> str | None:
    """The remote function; values only, so that a node with another paretune can say so.

    ``files``: references to what the runs read, which Ray brings to each node once.
    """
    host = ray.util.get_node_ip_address()

    def post(events: Sequence[RunEvent]) -> bool:
        return bool(ray.get(mailbox.post.remote(assignment.number, host, list(events))))

    if post([]):  # it has waited for its place too long
        return None
    contents = dict(zip(files, ray.get(list(files.values())), strict=True))
    return execute(replace(assignment, contents=contents), post)


@dataclass
class RayCluster:
    """A cluster that this process is connected to; see :func:`open_ray`.

    Attributes:
        execute: what a task does with its assignment.
        contents: of the files that runs read, by name.
    """

    execute: Execute = execute_assignment
    contents: Mapping[str, bytes] = field(default_factory=dict)
    _tasks: dict[Any, int] = field(default_factory=dict, init=False)
    _hosts: dict[int, str] = field(default_factory=dict, init=False)
    _cost_node: str = field(default="", init=False)
    _received: int = field(default=0, init=False)

    def __post_init__(self) -> None:
        self._files = {name: ray.put(content) for name, content in self.contents.items()}
        here = ray.get_runtime_context().get_node_id()
        # Beside the driver, so that it is lost only together with it. Not soft: Ray 2.60 then
        # takes another node, even where this one has room.
        place = NodeAffinitySchedulingStrategy(here, soft=False)
        actor = ray.remote(num_cpus=0, max_task_retries=-1, scheduling_strategy=place)(_Mailbox)
        self._mailbox = actor.remote()
        # Never retried: what is lost goes on from its newest checkpoint, which only the owner of
        # the store has.
        self._functions = {
            max_calls: ray.remote(max_retries=0, max_calls=max_calls)(_run_task)
            for max_calls in (0, 1)
        }

    @staticmethod
    def count_places(settings: WorkerSettings) -> int:
        """How many tasks the nodes that are there now can execute at once."""
        resources = ray.cluster_resources()
        places = resources.get("CPU", 0.0) // settings.threads
        if settings.device != "cpu":
            places = min(places, resources.get("GPU", 0.0))
        return int(places)

    def submit(self, assignment: Assignment) -> None:
        """Have a node execute it as soon as one is free."""
        gpus = int(assignment.settings.device != "cpu")
        options: dict[str, Any] = {"num_cpus": assignment.settings.threads, "num_gpus": gpus}
        options["name"] = f"paretune {assignment.number}"
        nodes = [node for node in ray.nodes() if node["Alive"]]
        if assignment.whole_node:
            node = self._choose_cost_node(nodes, gpus)
            place = NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)
            options |= {"num_cpus": node["Resources"]["CPU"], "scheduling_strategy": place}
        elif assignment.memory_bytes:
            # A run that no node has the memory for is tried where there is most of it.
            largest = max((node["Resources"].get("memory", 0.0) for node in nodes), default=0.0)
            options["memory"] = int(min(assignment.memory_bytes, largest))
        if assignment.measures_cost:  # in a process that has done nothing else
            environment = {"env_vars": {"PARETUNE_COST": str(assignment.number)}}
            options["runtime_env"] = environment
        names = set().union(*map(assignment.inputs.list_files, assignment.runs.values()))
        files = {name: self._files[name] for name in names}
        # On a GPU a process ends with its task: what it caches would fill the next one's memory.
        task = self._functions[1 if gpus or assignment.measures_cost else 0].options(**options)
        reference = task.remote(assignment, self._mailbox, self.execute, files)
        self._tasks[reference] = assignment.number

    def collect(self) -> list[Event]:
        """What the tasks have sent since the last call; what a task sent comes before its end."""
        references = list(self._tasks)
        ready = (
            ray.wait(references, num_returns=len(references), timeout=0)[0] if references else []
        )
        events: list[RunEvent]
        # After the look at what is ready: all that ended tasks have sent.
        events, self._hosts = self._ask("take", self._received)
        self._received += len(events)
        return [*events, *(self._end(reference) for reference in ready)]

    def request_stop(self) -> None:
        """Ask all tasks to send their checkpoints and to end; those not begun never begin."""
        self._ask("request_stop")
        for reference, number in self._tasks.items():
            if number not in self._hosts:  # it waits for a place
                ray.cancel(reference)

    def cancel(self) -> None:
        """End all tasks at once."""
        for reference in self._tasks:
            with suppress(exceptions.RayError):  # the cluster may be gone, and they with it
                ray.cancel(reference, force=True)

    def _ask(self, name: str, *arguments: Any) -> Any:
        """Call a method of the mailbox.

        Raises:
            ParetuneError: it does not answer.
        """
        try:
            return ray.get(getattr(self._mailbox, name).remote(*arguments))
        except exceptions.RayError as error:
            raise ParetuneError(
                f"the Ray cluster answers no more ({type(error).__name__}).",
                remedy="Nothing is lost: the same command continues when it is there again.",
            ) from error

    def _end(self, reference: Any) -> TaskEnded:
        number = self._tasks.pop(reference)
        node = self._hosts.get(number, "")
        try:
            return TaskEnded(number, node, refusal=ray.get(reference))
        except exceptions.TaskCancelledError:
            return TaskEnded(number, node)
        except exceptions.OutOfMemoryError:
            return TaskEnded(number, node, crash="Ray's memory monitor", out_of_memory=True)
        except (exceptions.NodeDiedError, exceptions.TaskUnschedulableError):
            return TaskEnded(number, node, lost=bool(node))  # one that never began has lost nothing
        except exceptions.RayTaskError as error:
            return TaskEnded(number, node, crash=f"an error\n{error}")
        except exceptions.RayError as error:
            return TaskEnded(number, node, crash=f"{type(error).__name__}\n{error}")

    def _choose_cost_node(self, nodes: Sequence[Any], gpus: int) -> Any:
        """One node for all costs, so that they can be compared: the largest, while it is there."""

        def rank(node: Any) -> tuple[bool, float, float, str]:
            resources, node_id = node["Resources"], node["NodeID"]
            memory = resources.get("memory", 0.0)
            return node_id == self._cost_node, resources["CPU"], memory, node_id

        fitting = [
            node
            for node in nodes
            if node["Resources"].get("GPU", 0.0) >= gpus and "CPU" in node["Resources"]
        ]
        if not fitting:
            raise ParetuneError(
                "no node of the cluster can execute a run of this study any more.",
                remedy="The same command continues when there is one.",
            )
        chosen = max(fitting, key=rank)
        self._cost_node = chosen["NodeID"]
        return chosen


@contextmanager
def open_ray(
    address: str | None,
    execute: Execute = execute_assignment,
    contents: Mapping[str, bytes] = MappingProxyType({}),
) -> Iterator[RayCluster]:
    """Connect to a cluster; disconnect when the block ends.

    Args:
        address: ``HOST:PORT`` of its head; None: ``RAY_ADDRESS``, or the cluster of this machine.
        execute, contents: as of :class:`RayCluster`.

    Raises:
        StudyError: there is none.
    """
    try:
        if address is not None:
            host, _, port = address.rpartition(":")
            if not (host and port.isdecimal()):
                raise ValueError("it is not HOST:PORT")
            # Ray itself tries for minutes.
            socket.create_connection((host, int(port)), CONNECT_SECONDS).close()
        ray.init(
            address=address or "auto",
            log_to_driver=False,
            logging_level="ERROR",
            namespace="paretune",
        )
    except (OSError, RuntimeError, ValueError) as error:
        raise StudyError(
            f"no Ray cluster answers ({str(error).strip().splitlines()[0]}).",
            where=spell_option("address", address) if address else spell_option("executor", "ray"),
            remedy="`ray start --head` on one machine, `ray start --address HOST:6379` on the "
            f"others, then {spell_option('address', 'HOST:6379')} on one of them.",
        ) from error
    try:
        # Ray prints the log of a lost node; the executor says which it is.
        with drop_output_of("ray_listen_error_messages"):
            yield RayCluster(execute, contents)
    finally:
        ray.shutdown()
