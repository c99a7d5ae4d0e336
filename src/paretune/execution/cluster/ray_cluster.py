"""Ray: each assignment is a Ray task with its own processors, memory or GPU.

The only file that imports ray. Tasks are not retried by Ray: what is lost goes on from its newest
checkpoint, which only the owner of the store has. They send through a small actor on the machine
of that owner.
"""

from __future__ import annotations

import socket
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Any

from paretune.errors import MissingDependencyError, ParetuneError, StudyError
from paretune.execution.cluster.assignment import Assignment, Event, TaskEnded
from paretune.execution.cluster.executor import Needs
from paretune.execution.cluster.node import execute_assignment
from paretune.terminal.rich_console import drop_output_of

try:
    import ray
    from ray import exceptions
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy
except ModuleNotFoundError as error:
    raise MissingDependencyError(
        "ray is not installed.",
        where="--executor ray",
        remedy='pip install "ray>=2.40,<3", the same version as on the cluster.',
    ) from error

CONNECT_SECONDS = 10.0
UNAVAILABLE_SECONDS = 60.0
"""How long the mailbox is asked again where a connection broke."""

Execute = Callable[[Assignment, Callable[[Sequence[Event]], bool]], str | None]
"""As :func:`~paretune.execution.cluster.node.execute_assignment`."""


class _Mailbox:
    """An actor: keeps what tasks send until the owner of the store has received it.

    Every call may be repeated: its answer can be lost on the way.
    """

    def __init__(self) -> None:
        self._events: list[Event] = []
        self._received = 0
        self._nodes: dict[int, tuple[str, str]] = {}
        self._stop = False

    def begin(self, number: int, node_id: str, host: str) -> bool:
        self._nodes[number] = node_id, host
        return self._stop

    def post(self, events: Sequence[Event]) -> bool:
        self._events += events
        return self._stop

    def take(self, received: int) -> tuple[list[Event], dict[int, tuple[str, str]]]:
        """Events after the first ``received`` of all, and the node of every task."""
        del self._events[: received - self._received]
        self._received = received
        return self._events, self._nodes

    def request_stop(self) -> None:
        self._stop = True


def _call(method: Any, *arguments: Any) -> Any:
    """Call a method of the mailbox; again where the connection broke but the actor lives."""
    patience = time.monotonic() + UNAVAILABLE_SECONDS
    while True:
        try:
            return ray.get(method.remote(*arguments))
        except exceptions.ActorUnavailableError:
            if time.monotonic() > patience:
                raise
            time.sleep(0.5)


def _run_task(
    assignment: Assignment, mailbox: Any, execute: Execute, files: Mapping[str, Any]
) -> str | None:
    """The remote function; values only, so that a node with another paretune can say so.

    ``files``: references to what runs read, which Ray brings to each node once.
    """
    context = ray.get_runtime_context()
    host = ray.util.get_node_ip_address()
    if _call(mailbox.begin, assignment.number, context.get_node_id(), host):
        return None
    contents = {name: ray.get(files[name]) for name in assignment.inputs.file_names()}
    assignment = replace(assignment, contents=contents)
    return execute(assignment, lambda events: bool(_call(mailbox.post, list(events))))


@dataclass
class RayCluster:
    """A cluster that this process is connected to; see :func:`open_ray`.

    Attributes:
        execute: what a task does with its assignment.
        contents: of the files that runs read, by name.
    """

    execute: Execute = execute_assignment
    contents: Mapping[str, bytes] = field(default_factory=dict)
    _files: dict[str, Any] = field(default_factory=dict, init=False)
    _tasks: dict[Any, int] = field(default_factory=dict, init=False)
    _nodes: dict[int, tuple[str, str]] = field(default_factory=dict, init=False)
    _cost_node: str | None = field(default=None, init=False)
    _received: int = field(default=0, init=False)

    def __post_init__(self) -> None:
        self._files = {name: ray.put(content) for name, content in self.contents.items()}
        here = ray.get_runtime_context().get_node_id()
        # Beside the driver, so that it is lost only together with it. Not soft: Ray 2.60 then
        # takes another node, even where this one has room.
        place = NodeAffinitySchedulingStrategy(here, soft=False)
        actor = ray.remote(num_cpus=0, scheduling_strategy=place)(_Mailbox)
        self._mailbox = actor.remote()
        # On a GPU a process ends with its task: what it caches would fill the next one's memory.
        self._functions = {
            gpus: ray.remote(max_retries=0, max_calls=gpus)(_run_task) for gpus in (0, 1)
        }

    def count_places(self, needs: Needs) -> int:
        """How many such tasks the nodes that are there now can execute at once."""
        places = 0
        for resources in self._list_nodes().values():
            fitting = resources.get("CPU", 0.0) // needs.threads
            if needs.gpus:
                fitting = min(fitting, resources.get("GPU", 0.0) // needs.gpus)
            places += int(fitting)
        return places

    def submit(self, assignment: Assignment, needs: Needs) -> None:
        """Have a node execute it as soon as one is free."""
        nodes = self._list_nodes()
        options: dict[str, Any] = {"num_cpus": needs.threads, "num_gpus": needs.gpus}
        if needs.whole_node:
            node_id = self._choose_cost_node(nodes, needs)
            options["num_cpus"] = nodes[node_id]["CPU"]
            options["scheduling_strategy"] = NodeAffinitySchedulingStrategy(node_id, soft=False)
        elif needs.memory_bytes:
            # A run that no node has the memory for is tried where there is most of it.
            largest = max((n.get("memory", 0.0) for n in nodes.values()), default=0.0)
            options["memory"] = int(min(needs.memory_bytes, largest))
        options["name"] = f"paretune {assignment.number}"
        reference = (
            self._functions[needs.gpus]
            .options(**options)
            .remote(assignment, self._mailbox, self.execute, self._files)
        )
        self._tasks[reference] = assignment.number

    def collect(self) -> list[Event]:
        """What the tasks have sent since the last call; what a task sent comes before its end."""
        references = list(self._tasks)
        ready = (
            ray.wait(references, num_returns=len(references), timeout=0)[0] if references else []
        )
        events: list[Event]
        # After the look at what is ready: all that ended tasks have sent.
        events, self._nodes = self._ask("take", self._received)
        self._received += len(events)
        return [*events, *(self._end(reference) for reference in ready)]

    def request_stop(self) -> None:
        """Ask all tasks to send their checkpoints and to end; those not begun never begin."""
        self._ask("request_stop")
        for reference, number in self._tasks.items():
            if number not in self._nodes:  # it waits for a place
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
            return _call(getattr(self._mailbox, name), *arguments)
        except exceptions.RayError as error:
            raise ParetuneError(
                f"the Ray cluster answers no more ({type(error).__name__}).",
                remedy="Nothing is lost: the same command continues when it is there again.",
            ) from error

    def _end(self, reference: Any) -> TaskEnded:
        number = self._tasks.pop(reference)
        node = self._nodes.get(number, ("", ""))[1]
        try:
            return TaskEnded(number, node, refusal=ray.get(reference))
        except exceptions.TaskCancelledError:
            return TaskEnded(number, node)
        except exceptions.OutOfMemoryError:
            return TaskEnded(number, node, crash="Ray's memory monitor", out_of_memory=True)
        except (exceptions.NodeDiedError, exceptions.TaskUnschedulableError):
            return TaskEnded(number, node, lost=True)
        except exceptions.RayTaskError as error:
            return TaskEnded(number, node, crash=f"an error\n{error}")
        except exceptions.RayError as error:
            return TaskEnded(number, node, crash=f"{type(error).__name__}\n{error}")

    def _choose_cost_node(self, nodes: dict[str, dict[str, float]], needs: Needs) -> str:
        """One node for all costs, so that they can be compared: the first of the largest."""

        def size(node_id: str) -> tuple[float, float, str]:
            resources = nodes[node_id]
            return resources["CPU"], resources.get("memory", 0.0), node_id

        if self._cost_node not in nodes:
            fitting = [
                i for i, n in nodes.items() if n.get("GPU", 0.0) >= needs.gpus and "CPU" in n
            ]
            if not fitting:
                raise ParetuneError(
                    "no node of the cluster can execute a run of this study any more.",
                    remedy="The same command continues when there is one.",
                )
            self._cost_node = max(fitting, key=size)
        return self._cost_node

    @staticmethod
    def _list_nodes() -> dict[str, dict[str, float]]:
        """Resources of the nodes that are there, by id."""
        return {node["NodeID"]: node["Resources"] for node in ray.nodes() if node["Alive"]}


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
            _connect(address)  # Ray itself tries for minutes
        ray.init(
            address=address or "auto",
            log_to_driver=False,
            logging_level="ERROR",
            namespace="paretune",
        )
    except (OSError, RuntimeError, ValueError) as error:
        raise StudyError(
            f"no Ray cluster answers ({str(error).strip().splitlines()[0]}).",
            where=f"--address {address}" if address else "--executor ray",
            remedy="`ray start --head` on one machine, `ray start --address HOST:6379` on the "
            "others, then --address HOST:6379 on one of them.",
        ) from error
    try:
        # Ray prints the log of a lost node; the executor says which it is.
        with drop_output_of("ray_listen_error_messages"):
            yield RayCluster(execute, contents)
    finally:
        ray.shutdown()


def _connect(address: str) -> None:
    """Raises OSError where nothing listens at ``HOST:PORT``, ValueError where it is none."""
    host, _, port = address.rpartition(":")
    if not (host and port.isdecimal()):
        raise ValueError("it is not HOST:PORT")
    socket.create_connection((host, int(port)), CONNECT_SECONDS).close()
