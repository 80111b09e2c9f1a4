"""Rotations, poses, cameras and sampling of maps."""

from pixloc_core.geometry.camera import Camera
from pixloc_core.geometry.camera_formats import CameraModel
from pixloc_core.geometry.distortion import DistortionModel
from pixloc_core.geometry.interpolation import (
    Stencil,
    inside,
    make_stencil,
    sample,
    sample_with_gradient,
)
from pixloc_core.geometry.pose import Pose

__all__ = [
    "Camera",
    "CameraModel",
    "DistortionModel",
    "Pose",
    "Stencil",
    "inside",
    "make_stencil",
    "sample",
    "sample_with_gradient",
]
