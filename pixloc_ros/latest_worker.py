"""One thread that works on the newest item; whatever comes while it is busy replaces the last."""

import threading
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Generic, TypeVar

T = TypeVar("T")


@dataclass(frozen=True)
class WorkerCounts:
    """What became of the items so far: `received = taken + dropped + (one may be waiting)`."""

    received: int = 0
    taken: int = 0
    dropped: int = 0


class LatestWorker(Generic[T]):
    """A mailbox with one slot, and the thread that empties it.

    Args:
        work: Called with each item taken, in the worker's thread.
        on_error: Called there with what `work` raised; the thread lives on.
    """

    def __init__(self, work: Callable[[T], None], on_error: Callable[[Exception], None]) -> None:
        self._work = work
        self._on_error = on_error
        self._changed = threading.Condition()
        self._slot: list[T] = []
        self._counts = WorkerCounts()
        self._stopping = False
        self._thread = threading.Thread(target=self._run, name="latest_worker", daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def put(self, item: T) -> WorkerCounts:
        """Leave an item, in place of one that still waits; returns at once, with the counts."""
        with self._changed:
            dropped = len(self._slot)
            self._slot[:] = [item]
            old = self._counts
            self._counts = WorkerCounts(old.received + 1, old.taken, old.dropped + dropped)
            self._changed.notify()
            return self._counts

    def clear(self) -> None:
        """Give up the item that waits."""
        with self._changed:
            old, waiting = self._counts, len(self._slot)
            self._slot.clear()
            self._counts = WorkerCounts(old.received, old.taken, old.dropped + waiting)

    @property
    def counts(self) -> WorkerCounts:
        """What became of the items so far."""
        with self._changed:
            return self._counts

    def stop(self, timeout: float = 10.0) -> bool:
        """Finish the item in work, forget the one that waits, end the thread.

        Args:
            timeout: Seconds to wait for the item in work.

        Returns:
            Whether the thread has ended.
        """
        with self._changed:
            self._stopping = True
            self._changed.notify()
        if self._thread.ident is not None:
            self._thread.join(timeout)
        return not self._thread.is_alive()

    def _run(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._slot or self._stopping)
                if self._stopping:
                    return
                item = self._slot.pop()
                old = self._counts
                self._counts = WorkerCounts(old.received, old.taken + 1, old.dropped)
            self._guarded(partial(self._work, item))

    def _guarded(self, function: Callable[[], None]) -> None:
        try:
            function()
        except Exception as error:  # noqa: BLE001 - one bad item must not end the service
            self._on_error(error)
