"""Several machines, or devices, that train one model together, by tf.distribute. Used in notebook 10_scale."""

import contextlib
import faulthandler
import hashlib
import json
import os
import pickle
import platform
import socket
import time
from collections.abc import Callable, Iterator
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

import numpy as np

from charlstm.checkpoint import differences
from charlstm.console import import_tensorflow_quietly
from charlstm.model_file import plain

if TYPE_CHECKING:
    import tensorflow as tf

EXAMPLE = '{"cluster": {"worker": ["10.0.0.1:2222", "10.0.0.2:2222"]}, "task": {"type": "worker", "index": 0}}'


def connect(timeout: float = 300) -> "tf.distribute.MultiWorkerMirroredStrategy":
    """Wait for all workers that the environment variable TF_CONFIG names, and give the strategy that joins them.

    Build the model ``with strategy.scope():``, and give it to ``train``. timeout: seconds to wait for the others.

    Raises ValueError, saying what is wrong, if TF_CONFIG does not tell the workers and which of them this is;
    TimeoutError, naming them, if some do not come; OSError if the port is taken, or TensorFlow can't do this here.
    Only the first call of TensorFlow in a process can join workers. Used in 10_scale.
    """
    addresses, own = _read_tf_config(os.environ.get("TF_CONFIG", ""))
    _meet(addresses, own, timeout)
    import_tensorflow_quietly()
    import tensorflow as tf

    # A worker that dies just now would keep the others waiting for an hour, in C++ code that lets no other thread run,
    # and that no other signal than KILL ends.
    faulthandler.dump_traceback_later(timeout + 60, exit=True)
    try:
        return tf.distribute.MultiWorkerMirroredStrategy()
    except (AttributeError, tf.errors.OpError) as error:
        place = f"TensorFlow {tf.__version__} on {platform.system()}"
        raise OSError(f"{place} can't join workers ({error}): take Linux, macOS or WSL2") from None
    finally:
        faulthandler.cancel_dump_traceback_later()


def _read_tf_config(text: str) -> tuple[list[str], int]:
    """The addresses of all workers, chief first, and the place of our own among them. Raises ValueError."""
    try:
        config = json.loads(text)
        chief, worker = (config["cluster"].get(name, []) for name in ("chief", "worker"))
        addresses, task = [*chief, *worker], config["task"]
        own = {"chief": 0, "worker": len(chief)}[task["type"]] + int(task["index"])
        ports = [int(address.rpartition(":")[2]) for address in addresses]
        if 0 <= own < len(ports):
            return addresses, own
        problem = f"it names {len(ports)}, and this would be number {own}"
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        problem = f"it is {text!r} ({error!r})"
    raise ValueError(f"TF_CONFIG must name all workers, and which of them this is, such as {EXAMPLE}, but {problem}")


def _meet(addresses: list[str], own: int, timeout: float) -> None:
    """Return when all others listen, as we do until then, and as TensorFlow will do at the same address."""
    missing, end = [*addresses[:own], *addresses[own + 1 :]], time.monotonic() + timeout
    with socket.create_server(("", int(addresses[own].rpartition(":")[2]))):
        while missing := [address for address in missing if not _listens(address)]:
            if time.monotonic() > end:
                names = ", ".join(f"worker {addresses.index(address)} at {address}" for address in missing)
                raise TimeoutError(f"waited {timeout:g} seconds for {names}: start all of them, and look for firewalls")
            time.sleep(0.1)
        time.sleep(0.5)  # so that those who look ten times a second have seen us, too


def _listens(address: str) -> bool:
    host, _, port = address.rpartition(":")
    with contextlib.suppress(OSError), socket.create_connection((host, int(port)), timeout=1):
        return True
    return False


@contextlib.contextmanager
def together(model) -> Iterator["Workers"]:
    """Those that train ``model``, which are joined by the strategy in whose scope it was built.

    Raises ValueError within a scope, where a variable that only the first worker makes, to measure, would stop all; and
    turns TensorFlow's many errors for a worker that has ended into a ConnectionError that says so.
    """
    import tensorflow as tf

    if tf.distribute.has_strategy():
        raise ValueError("call train outside of strategy.scope(), and build_model within it")
    workers, errors = Workers(model.distribute_strategy), tf.errors
    try:
        yield workers
    except (errors.UnavailableError, errors.AbortedError, errors.InternalError, errors.CancelledError) as error:
        if workers.count == 1:
            raise
        advice = "see what it says, and start all of them again with the same command"
        raise ConnectionError(f"another worker has ended, or can't be reached: {advice}") from error


class Workers:
    """``count`` processes, of which this is the one with the ``number``; ``replicas``: devices of all together.

    Within the scope of ``strategy`` every new variable takes part in the talk of the workers. So all of them must make
    the same ones there, and what only one does, such as measuring, is done outside.
    """

    def __init__(self, strategy: "tf.distribute.Strategy"):
        import tensorflow as tf

        self.strategy, self.replicas = strategy, strategy.num_replicas_in_sync
        self.devices = len(strategy.extended.worker_devices) if self.replicas > 1 else 1
        self.count, self.number = self.replicas // self.devices, 0
        if self.count == 1:
            return

        def gather(numbers):
            context = tf.distribute.get_replica_context()
            return context.all_gather(numbers[None], axis=0), context.replica_id_in_sync_group

        @tf.function(input_signature=[tf.TensorSpec((None,), tf.int32)])
        def gather_from_all(numbers):
            return [strategy.experimental_local_results(part)[0] for part in strategy.run(gather, args=(numbers,))]

        self._gather = gather_from_all
        self.number = int(gather_from_all(np.zeros(1, np.int32))[1]) // self.devices

    def gather(self, data: bytes) -> list[bytes]:
        """What each of the workers, of which there are two at least, has given, in their order."""
        sizes = self._gather(np.array([len(data)], np.int32))[0][:: self.devices, 0].numpy()
        padded = data.ljust(-(-max(sizes) // 4) * 4, b"\0")
        rows = self._gather(np.frombuffer(padded, np.int32))[0][:: self.devices].numpy()
        return [row.tobytes()[:size] for row, size in zip(rows, sizes, strict=True)]

    def from_first(self, compute: Callable[[], Any]) -> Any:
        """What ``compute`` gives on the first worker, or raises there, on all of them; the others do not call it."""
        if self.count == 1:
            return compute()
        answer = error = None
        if self.number == 0:
            try:
                answer = compute()
            except (ValueError, TypeError, OSError) as raised:
                error = raised
        # (Pickles may hold code; but so may what TensorFlow takes from the same connection.)
        answer, error = pickle.loads(self.gather(pickle.dumps((answer, error)))[0])
        if error:
            raise error
        return answer

    def must_share(self, batch_size: int) -> None:
        """Raises ValueError if batches of this size can't be shared out evenly."""
        if batch_size % (n := self.replicas):
            raise ValueError(f"{n} workers can't share batches of {batch_size}: give a batch_size that {n} divides")

    def must_agree(self, facts: dict, weights: list[np.ndarray]) -> None:
        """Raises ValueError, on all workers, saying what differs, unless all have given the same ``facts`` and
        ``weights``, and have the same versions of what computes with them."""
        facts = facts | {name: version(name) for name in ("charlstm", "keras", "tensorflow", "numpy")}
        facts["weights"] = hashlib.sha256(b"".join(weight.tobytes() for weight in weights)).hexdigest()
        first, *others = map(json.loads, self.gather(json.dumps(facts, default=plain).encode()))
        for number, other in enumerate(others, 1):
            if differing := differences(first, other, "on worker 0", f"on worker {number}"):
                raise ValueError(f"the workers differ ({differing}): start all with the same text, settings, versions")
