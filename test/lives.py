"""A hundred lives of a localizer node with an image each, in a process of their own.

    python test/lives.py MAP

Prints resident memory [MiB] and open files after each life, as JSON. In a process that has done
other work before, the heap it left behind would hide, or pretend, a leak.
"""

import ctypes
import gc
import json
import os
import sys
from pathlib import Path

import rclpy
import torch
from fake_localizer import SECOND, camera_info
from rclpy.lifecycle import TransitionCallbackReturn
from robot_bench import wait
from std_msgs.msg import Header
from toy_world import ToyWorld

from pixloc_core.geometry import Pose
from pixloc_ros.conversions import ns_to_stamp, pose_to_transform
from pixloc_ros.image_conversions import array_to_image
from pixloc_ros.interfaces import TFMessage
from pixloc_ros.localizer_node import LocalizerNode
from pixloc_ros.prior_poses import InitialPose
from pixloc_ros.rig_messages import CameraMessage

DONE = TransitionCallbackReturn.SUCCESS
LIVES = 100


def resident_mib() -> float:
    """Memory of this process, without what only the allocator keeps."""
    gc.collect()
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


def open_files() -> int:
    """File descriptors of this process."""
    return len(list(Path("/proc/self/fd").iterdir()))


def room_image(world: ToyWorld, index: int) -> CameraMessage:
    """Image of the toy room from the place of a map image, and its calibration."""
    header = Header(stamp=ns_to_stamp(SECOND), frame_id="camera")
    pixels, _ = world.render(world.cam_from_map[index])
    (fx, fy), (cx, cy) = world.camera.f.tolist(), world.camera.c.tolist()
    info = camera_info(
        width=pixels.shape[1], height=pixels.shape[0], k=[fx, 0.0, cx, 0.0, fy, cy, 0.0, 0.0, 1.0]
    )
    return CameraMessage("", array_to_image(pixels, "rgb8", header), info)


def localize_one(node: LocalizerNode, message: CameraMessage, map_from_base: Pose) -> None:
    """Through all of it: decoding, core, outputs."""
    session = node._session
    node._engine.pipeline.give(InitialPose(map_from_base, 0))
    session.inputs._take(message)
    wait(lambda: session.outcome is not None, "outcome", 60.0)
    assert session.outcome.published, session.outcome.reason


def main() -> None:
    """Live."""
    rclpy.init(args=["--ros-args", "-p", f"map:={sys.argv[1]}", "-p", "autostart:=false"])
    node, world = LocalizerNode(), ToyWorld()
    image, map_from_base = room_image(world, 2), world.cam_from_map[2].inv()
    # The camera is the robot.
    static = pose_to_transform(Pose.identity(dtype=torch.float64), "base_link", "camera", 0)
    node._frames.add_message(TFMessage(transforms=[static]), static=True)
    memory, files = [], []
    for _ in range(LIVES):
        assert node.trigger_configure() is DONE
        assert node.trigger_activate() is DONE
        localize_one(node, image, map_from_base)
        assert node.trigger_deactivate() is DONE
        assert node.trigger_cleanup() is DONE
        memory.append(resident_mib())
        files.append(open_files())
    node.close()
    rclpy.shutdown()
    print(json.dumps({"memory": memory, "files": files}))  # noqa: T201 - read by the test


if __name__ == "__main__":
    main()
