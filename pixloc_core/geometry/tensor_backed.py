"""What `Pose` and `Camera` share: they are batches of numbers and behave like tensors."""

from collections.abc import Callable, Iterable, Sequence
from typing import Any, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray

from pixloc_core.errors import ShapeError
from pixloc_core.shapes import Tensor

Self = TypeVar("Self", bound="TensorBacked")
Numbers = Tensor | NDArray[Any] | Sequence[Any]


def as_float_tensor(values: Any, like: Tensor | None = None) -> Tensor:
    """Tensor of floats from a tensor, array or nested sequence.

    Numbers that are not tensors take dtype and device of `like`; without it, integers become
    float64.
    """
    if isinstance(values, Tensor):
        return values if values.is_floating_point() else values.double()
    if like is not None:
        return torch.as_tensor(np.asarray(values), dtype=like.dtype, device=like.device)
    array = np.asarray(values)
    return torch.as_tensor(array if array.dtype.kind == "f" else array.astype(np.float64))


class TensorBacked:
    """An immutable batch of objects over a tensor `data` of shape `(*b, d)`.

    Indexing, reshaping, `torch.stack` and `torch.cat` act on the batch dimensions `*b` alone.
    """

    __slots__ = ("_data",)
    _data: Tensor

    def _map(self: Self, function: Callable[[Tensor], Tensor]) -> Self:
        """Copy of this object with the function applied to every tensor in it."""
        raise NotImplementedError

    @classmethod
    def _join(
        cls: type[Self], items: Sequence[Self], join: Callable[[list[Tensor]], Tensor]
    ) -> Self:
        """One object of several, by joining each of their tensors."""
        raise NotImplementedError

    @property
    def data(self) -> Tensor:
        """All numbers, `(*b, d)`."""
        return self._data

    @property
    def shape(self) -> torch.Size:
        """Batch shape `*b`."""
        return self._data.shape[:-1]

    @property
    def ndim(self) -> int:
        """Number of batch dimensions."""
        return self._data.ndim - 1

    @property
    def dtype(self) -> torch.dtype:
        """Number type."""
        return self._data.dtype

    @property
    def device(self) -> torch.device:
        """Where the numbers lie."""
        return self._data.device

    @property
    def requires_grad(self) -> bool:
        """Whether gradients are tracked."""
        return self._data.requires_grad

    def __len__(self) -> int:
        if not self.shape:
            raise TypeError(f"a single {type(self).__name__} has no length")
        return self.shape[0]

    def __getitem__(self: Self, index: Any) -> Self:
        parts = index if isinstance(index, tuple) else (index,)
        # The last dimension belongs to the object: no index may reach it.
        if any(part is Ellipsis for part in parts):
            full = (*parts, slice(None))
        else:
            full = (*parts, Ellipsis, slice(None))
        return self._map(lambda x: x[full])

    def to(self: Self, *args: Any, **kwargs: Any) -> Self:
        """Copy with another dtype or device; arguments as for `Tensor.to`."""
        return self._map(lambda x: x.to(*args, **kwargs))

    def cuda(self: Self, *args: Any, **kwargs: Any) -> Self:
        """Copy on the GPU."""
        return self._map(lambda x: x.cuda(*args, **kwargs))

    def cpu(self: Self) -> Self:
        """Copy in main memory."""
        return self._map(Tensor.cpu)

    def float(self: Self) -> Self:
        """Copy in float32."""
        return self._map(Tensor.float)

    def double(self: Self) -> Self:
        """Copy in float64."""
        return self._map(Tensor.double)

    def detach(self: Self) -> Self:
        """Same numbers, cut from the gradient graph."""
        return self._map(Tensor.detach)

    def reshape(self: Self, *shape: int) -> Self:
        """Same objects in another batch shape."""
        return self._map(lambda x: x.reshape(*shape, x.shape[-1]))

    def expand(self: Self, *shape: int) -> Self:
        """Repeat without copying to a batch shape; -1 keeps a dimension."""
        return self._map(lambda x: x.expand(*shape, -1))

    def unsqueeze(self: Self, dim: int) -> Self:
        """Insert a batch dimension of size one."""
        return self._map(lambda x: x.unsqueeze(_batch_dim(dim)))

    def squeeze(self: Self, dim: int) -> Self:
        """Remove a batch dimension of size one."""
        return self._map(lambda x: x.squeeze(_batch_dim(dim)))

    @classmethod
    def __torch_function__(
        cls,
        func: Callable[..., Any],
        types: Iterable[type],
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        """Let `torch.stack` and `torch.cat` take sequences of these objects."""
        if func not in (torch.stack, torch.cat) or not all(issubclass(t, cls) for t in types):
            return NotImplemented
        return _join_along(cls, func, *args, **(kwargs or {}))

    def __repr__(self) -> str:
        return f"{type(self).__name__}({tuple(self.shape)}, {self.dtype}, {self.device})"


def _join_along(
    cls: type[Self], join: Callable[..., Tensor], items: Sequence[Self], dim: int = 0
) -> Self:
    return cls._join(list(items), lambda tensors: join(tensors, dim=_batch_dim(dim)))


def _batch_dim(dim: int) -> int:
    """Negative dimensions count from the last batch dimension."""
    return dim if dim >= 0 else dim - 1


def check_width(data: Tensor, width: int, name: str) -> None:
    """Raise ShapeError unless the last dimension has this size and holds floats."""
    if data.ndim == 0 or data.shape[-1] != width:
        raise ShapeError(f"{name} has shape {tuple(data.shape)}, expected (*b, {width})")
    if not data.is_floating_point():
        raise ShapeError(f"{name} holds {data.dtype}, expected floating point")


def broadcast_batch(*tensors: Tensor) -> tuple[int, ...]:
    """Common batch shape of tensors `(*b, d)`.

    Raises:
        ShapeError: If there is none.
    """
    try:
        return np.broadcast_shapes(*(tensor.shape[:-1] for tensor in tensors))
    except ValueError:
        shapes = ", ".join(str(tuple(tensor.shape[:-1])) for tensor in tensors)
        raise ShapeError(f"batches of shapes {shapes} do not broadcast") from None
