import threading
import time

import pytest

from pixloc_ros.latest_worker import LatestWorker, WorkerCounts


class Recorder:
    """Work that waits until it is let go, and remembers what it was given."""

    def __init__(self) -> None:
        self.items: list[int] = []
        self.errors: list[Exception] = []
        self.started = threading.Semaphore(0)
        self.go = threading.Semaphore(0)

    def work(self, item: int) -> None:
        self.items.append(item)
        self.started.release()
        assert self.go.acquire(timeout=10)
        if item < 0:
            raise ValueError(f"bad item {item}")

    def wait_started(self) -> None:
        assert self.started.acquire(timeout=10)


@pytest.fixture
def recorder():
    return Recorder()


@pytest.fixture
def worker(recorder):
    worker = LatestWorker(recorder.work, recorder.errors.append)
    worker.start()
    yield worker
    recorder.go.release(100)
    assert worker.stop()


def test_newest_item_wins_while_the_worker_is_busy(worker, recorder):
    worker.put(1)
    recorder.wait_started()
    for item in (2, 3, 4):
        worker.put(item)
    recorder.go.release()
    recorder.wait_started()
    assert recorder.items == [1, 4]
    assert worker.counts == WorkerCounts(received=4, taken=2, dropped=2)


def test_putting_returns_at_once(worker, recorder):
    worker.put(1)
    recorder.wait_started()
    begin = time.perf_counter()
    for item in range(1000):
        worker.put(item)
    assert time.perf_counter() - begin < 1.0


def test_error_is_reported_and_the_next_item_is_worked_on(worker, recorder):
    worker.put(-1)
    recorder.wait_started()
    worker.put(2)
    recorder.go.release()
    recorder.wait_started()
    assert [str(error) for error in recorder.errors] == ["bad item -1"]
    assert recorder.items == [-1, 2]


def test_same_item_is_never_worked_on_twice(worker, recorder):
    recorder.go.release(100)
    worker.put(7)
    recorder.wait_started()
    assert not recorder.started.acquire(timeout=0.1)
    assert recorder.items == [7]


def test_stop_forgets_the_item_that_waits(recorder):
    worker = LatestWorker(recorder.work, recorder.errors.append)
    worker.start()
    worker.put(1)
    recorder.wait_started()
    worker.put(2)
    threading.Timer(0.1, recorder.go.release).start()
    assert worker.stop()
    assert recorder.items == [1]


def test_worker_that_was_never_started_stops():
    assert LatestWorker(print, print).stop()
