"""Map points and hypotheses as messages for people to look at."""

import array

import numpy as np
from geometry_msgs.msg import PoseArray
from sensor_msgs.msg import PointCloud2, PointField
from std_msgs.msg import Header

from pixloc_core.geometry import Pose
from pixloc_core.localizer.result import Evidence
from pixloc_ros.conversions import pose_to_message

_FIELDS = ("x", "y", "z", "residual", "weight")


def evidence_cloud(evidence: Evidence, points_map: np.ndarray, header: Header) -> PointCloud2:
    """The map points that the image was held against.

    Args:
        evidence: Residual and weight of each point.
        points_map: Positions (n, 3) of all of them, metres.
        header: Frame of the map and stamp of the image.

    Returns:
        Float32 fields x, y, z, residual (feature difference) and weight (in [0, 1]) of the points
        inside the image.
    """
    columns = [points_map, evidence.residual.numpy()[:, None], evidence.weight.numpy()[:, None]]
    table = np.concatenate(columns, axis=1).astype(np.float32)[evidence.valid.numpy()]
    message = PointCloud2(header=header, height=1, width=len(table), is_dense=True)
    message.fields = [
        PointField(name=name, offset=4 * place, datatype=PointField.FLOAT32, count=1)
        for place, name in enumerate(_FIELDS)
    ]
    message.point_step = 4 * len(_FIELDS)
    message.row_step = message.point_step * len(table)
    message.data = array.array("B", table.tobytes())
    return message


def pose_array(poses: Pose, header: Header) -> PoseArray:
    """Poses (k) in the frame of the header."""
    return PoseArray(header=header, poses=[pose_to_message(poses[i]) for i in range(len(poses))])
