"""A localizer, run as a process, for whose map `slow.h5` PyTorch works for some seconds."""

import sys
import time

import torch
from fake_localizer import FakeMap

from pixloc_ros.localizer_node import LocalizerNode
from pixloc_ros.node_config import NodeConfig
from pixloc_ros.node_main import run_node


def open_slowly(config: NodeConfig, path: str) -> FakeMap:
    """Says so, and works for as long as `weights` says."""
    if path.endswith("slow.h5"):
        sys.stdout.write("opening\n")
        sys.stdout.flush()
        until = time.monotonic() + float(config.weights)
        image, kernel = torch.zeros(1, 8, 256, 256), torch.zeros(8, 8, 3, 3)
        while time.monotonic() < until:
            image = torch.nn.functional.conv2d(image, kernel, padding=1)
    return FakeMap()


if __name__ == "__main__":
    sys.exit(run_node(lambda: LocalizerNode(open_slowly), "localizer", "", sys.argv))
