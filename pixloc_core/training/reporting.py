"""Numbers of a run between two log lines: means over pairs, and where the time went."""

import time
from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

import torch

from pixloc_core.shapes import Float, Tensor
from pixloc_core.training.parallel import Ranks
from pixloc_core.training.trainer import Evaluation, StepReport

T = TypeVar("T")


class Window:
    """Adds up the numbers of batches."""

    def __init__(self) -> None:
        self._values: dict[str, list[Float[Tensor, " b"]]] = {}
        self.pairs = 0
        self._gradient_norms: list[float] = []
        self._learning_rate = 0.0

    def add_step(self, report: StepReport) -> None:
        """Add a training step; nothing of its features is kept."""
        self._gradient_norms.append(report.gradient_norm)
        self._learning_rate = report.learning_rate
        self.add(report.evaluation)

    def add(self, evaluation: Evaluation) -> None:
        """Add a batch."""
        for name, value in evaluation.numbers.items():
            self._values.setdefault(name, []).append(value)
        self.pairs += len(evaluation.loss)

    def means(self, ranks: Ranks | None = None) -> dict[str, float]:
        """Means over all pairs for which a number means something, NaN where there are none.

        Args:
            ranks: Average over these processes, too.
        """
        names = sorted(self._values)
        columns = [torch.cat(self._values[name]).double() for name in names]
        known = [column.isfinite() for column in columns]
        sums = [c[k].sum() for c, k in zip(columns, known, strict=True)]
        table = torch.stack([torch.stack(sums), torch.stack([k.sum() for k in known]).double()])
        if ranks is not None:
            table = ranks.mean(table.flatten()).view(table.shape)
        means = dict(zip(names, (table[0] / table[1]).tolist(), strict=True))
        if norms := self._gradient_norms:
            means["gradient_norm"] = sum(norms) / len(norms)
            means["learning_rate"] = self._learning_rate
        return means


class Clock:
    """Tells how long was waited for data, and how long was worked."""

    def __init__(self, clock: Callable[[], float] = time.perf_counter) -> None:
        self._clock = clock
        self._began = clock()
        self._waited = 0.0

    def watch(self, batches: Iterable[T]) -> Iterator[T]:
        """The same batches; the time that each takes to come is waiting."""
        source = iter(batches)
        while True:
            began = self._clock()
            try:
                batch = next(source)
            except StopIteration:
                return
            self._waited += self._clock() - began
            yield batch

    def rates(self, pairs: int) -> dict[str, float]:
        """Pairs per second and the share of the time spent waiting, since the last call."""
        now = self._clock()
        elapsed = max(now - self._began, 1e-9)
        rates = {"pairs_per_second": pairs / elapsed, "waiting_for_data": self._waited / elapsed}
        self._began, self._waited = now, 0.0
        return rates
