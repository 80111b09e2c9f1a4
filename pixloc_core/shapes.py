"""Shape annotations: `Float[Tensor, "*b n 3"]`.

Vocabulary: `*b` batch, `n` points, `k` hypotheses or observations, `c` channels, `h w` image,
`l` levels, `d` residual dimension. With jaxtyping installed the annotations can be checked (the
tests do so); without it they are inert and cost nothing.
"""

from typing import TYPE_CHECKING, Any

from torch import Tensor

if TYPE_CHECKING:
    from jaxtyping import Bool, Float, Int
else:
    try:
        from jaxtyping import Bool, Float, Int
    except ImportError:

        class _Inert:
            def __class_getitem__(cls, item: tuple[Any, str]) -> Any:
                return item[0]

        Bool = Float = Int = _Inert

__all__ = ["Bool", "Float", "Int", "Tensor"]
