"""Settings of the localizer."""

from dataclasses import dataclass, replace

from pixloc_core.alignment.aligner_config import AlignerConfig
from pixloc_core.config import check, section, setting
from pixloc_core.features.preferences import Preferences
from pixloc_core.localizer.checks import CheckConfig
from pixloc_core.localizer.covariance import CovarianceConfig
from pixloc_core.localizer.hypotheses import FanConfig
from pixloc_core.localizer.verification import VerificationConfig
from pixloc_core.map.selection import SelectionConfig


@dataclass(frozen=True, kw_only=True)
class LocalizerConfig:
    """How a query is answered, and when the answer is that it cannot be localized."""

    selection: SelectionConfig = section(  # noqa: RUF009 (a field)
        SelectionConfig, doc="Which references and points to use."
    )
    aligner: AlignerConfig = section(  # noqa: RUF009 (a field)
        AlignerConfig, doc="Alignment of the image to the points."
    )
    aggregation: str = setting(
        "mean",
        doc="Descriptor of a point: that of its best viewed observation, or the mean of several.",
        choices=("single", "mean"),
    )
    max_priors: int = setting(
        8, doc="Poses of the prior, or of its references, that are tried together.", ge=1
    )
    fan: FanConfig = section(  # noqa: RUF009 (a field)
        FanConfig, doc="Hypotheses around a pose from which the fine levels alone found nothing."
    )
    near_stride: int = setting(
        -1,
        doc="A single pose is first followed alone at levels of at most this stride: a near prior "
        "needs neither coarser ones nor a fan. 0: no such try; -1: as the features have it.",
        unit="px",
        ge=-1,
    )
    reselect_px: float = setting(
        30.0,
        doc="Choose references and points anew at the pose found if it lies further from the "
        "prior than this mean motion of the points.",
        unit="px",
        ge=0.0,
    )
    verification: VerificationConfig = section(  # noqa: RUF009 (a field)
        VerificationConfig, doc="When a pose is not believed."
    )
    checks: CheckConfig = section(  # noqa: RUF009 (a field)
        CheckConfig, doc="Evidence for a pose apart from the cost that it minimizes."
    )
    covariance: CovarianceConfig = section(  # noqa: RUF009 (a field)
        CovarianceConfig, doc="How wrong a pose is said to be."
    )

    def __post_init__(self) -> None:
        check(self)

    def for_features(self, preferences: Preferences) -> "LocalizerConfig":
        """The settings, where they leave something open as the features have it."""
        aligner = replace(
            self.aligner,
            robust_scale=self.aligner.robust_scale or preferences.robust_scale,
            interpolation=self.aligner.interpolation or preferences.interpolation,
        )
        return replace(
            self,
            aligner=aligner,
            near_stride=preferences.near_stride if self.near_stride < 0 else self.near_stride,
            verification=self.verification.for_features(preferences.agreement),
        )
