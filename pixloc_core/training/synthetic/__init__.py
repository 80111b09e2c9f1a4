"""Endless training pairs of procedural places, ray-cast with exact depth and occlusion."""

from pixloc_core.training.synthetic.source import SyntheticSource
from pixloc_core.training.synthetic.synthetic_config import SyntheticConfig

__all__ = ["SyntheticConfig", "SyntheticSource"]
