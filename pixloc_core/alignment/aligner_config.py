"""Settings of the alignment of an image to map points."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar, cast, get_args

from pixloc_core.alignment.cost import CostConfig
from pixloc_core.config import check, section, setting
from pixloc_core.errors import ConfigError
from pixloc_core.geometry.interpolation import Mode
from pixloc_core.optim.damping import AdaptedDamping, AdaptiveDamping, Damping
from pixloc_core.optim.levenberg_marquardt import LmConfig
from pixloc_core.optim.robust import LossConfig, RobustLoss, create_loss
from pixloc_core.shapes import Float, Tensor

T = TypeVar("T")
PER_LEVEL = "Entry i holds for pyramid level i (0 = finest), the last one for all coarser levels."

# Where neither settings nor features say anything.
_ROBUST_SCALE = (0.2, 0.3, 0.5)
_INTERPOLATION: tuple[Mode, ...] = ("linear",)


@dataclass(frozen=True, kw_only=True)
class AlignerConfig:
    """Coarse-to-fine alignment; the defaults are better than the reference (docs/math.md, 5)."""

    levels: tuple[int, ...] = setting((), doc="Pyramid levels used, 0 = finest; empty: all.", ge=0)
    max_iterations: tuple[int, ...] = setting(
        (30, 50), doc=f"Largest number of steps per level. {PER_LEVEL}", ge=0
    )
    robust_scale: tuple[float, ...] = setting(
        (),
        doc="Residual beyond which a point counts less; empty: as the features have it. "
        f"{PER_LEVEL}",
        ge=1e-6,
    )
    pad: tuple[float, ...] = setting(
        (1.0,), doc=f"Border where points are not used. {PER_LEVEL}", unit="px of the map", ge=0.0
    )
    keep: tuple[int, ...] = setting(
        (1, 4, 8, 8, 16), doc=f"Hypotheses kept after a level, the best by cost. {PER_LEVEL}", ge=1
    )
    restart: bool = setting(
        True,
        doc="Let the initial poses start again at each level but the finest, beside the others.",
    )
    num_points: tuple[int, ...] = setting(
        (4000, 800), doc=f"Points used per level, the most useful ones. {PER_LEVEL}", ge=10
    )
    max_rows: int = setting(
        8192, doc="Hypotheses times points at a level; many hypotheses use every m-th point.", ge=1
    )
    loss: LossConfig = section(  # noqa: RUF009 (a field)
        LossConfig, doc="Robust loss, the same at all levels."
    )
    optimizer: LmConfig = section(  # noqa: RUF009 (a field)
        LmConfig, doc="Acceptance and stopping of the optimizer."
    )
    damping: AdaptiveDamping = section(  # noqa: RUF009 (a field)
        AdaptiveDamping, doc="How the damping starts and adapts."
    )
    learned_damping: bool = setting(
        False,
        doc="Start with the damping that was learned with the weights of a network, if it was.",
    )
    interpolation: tuple[str, ...] = setting(
        (),
        doc=f"How maps are sampled between pixels; empty: as the features have it. {PER_LEVEL}",
        choices=get_args(Mode),
    )
    outside_residual: float = setting(
        1.0,
        doc="A point out of sight costs as much as one with this residual; 0: it does not count.",
        ge=0.0,
    )

    def __post_init__(self) -> None:
        check(self)
        for name in ("max_iterations", "pad", "keep", "num_points"):
            if not len(getattr(self, name)):
                raise ConfigError(f"AlignerConfig.{name} is empty, expected at least one entry")

    @classmethod
    def reference(cls, max_iterations: int = 100) -> "AlignerConfig":
        """Policies of PixLoc: every step taken, fixed damping, stop by absolute step size."""
        return cls(
            max_iterations=(max_iterations,),
            robust_scale=(0.1,),
            pad=(2.0,),
            loss=LossConfig(name="barron", alpha=0.0),
            optimizer=LmConfig.reference(),
            damping=AdaptiveDamping(init=1e-2, up=1.0, down=1.0, smallest=0.0, use_gain=False),
            outside_residual=0.0,
            num_points=(1_000_000,),
            restart=False,
        )

    def level_cost(self, level: int) -> CostConfig:
        """Settings of the cost at a pyramid level."""
        return CostConfig(
            pad=at_level(self.pad, level),
            mode=cast(Mode, at_level(self.interpolation or _INTERPOLATION, level)),
            outside_residual=self.outside_residual or None,
        )

    def level_damping(self, learned: Float[Tensor, "l 6"] | None) -> tuple[Damping, ...] | None:
        """Damping policies of all pyramid levels, fine to coarse.

        Args:
            learned: Parameters of `LearnedDamping` per level that came with the features.

        Returns:
            None if `damping` holds as it is, at all levels.
        """
        if learned is None or not self.learned_damping:
            return None
        return tuple(AdaptedDamping(const, self.damping) for const in learned)

    def level_loss(self, level: int) -> RobustLoss:
        """Robust loss at a pyramid level."""
        return create_loss(self.loss, at_level(self.robust_scale or _ROBUST_SCALE, level))


def at_level(values: Sequence[T], level: int) -> T:
    """Entry of a per-level setting; the last one holds for all coarser levels."""
    return values[min(level, len(values) - 1)]
