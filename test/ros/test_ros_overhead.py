"""What ROS costs around the core (benchmarks/ros_overhead.py); nothing goes element by element."""

import array

import numpy as np
import pytest
import torch
from fake_localizer import evidence
from rclpy.serialization import deserialize_message, serialize_message
from sensor_msgs.msg import Image
from std_msgs.msg import Header

from benchmarks.ros_overhead import SIZES, Case, measure
from pixloc_ros.clouds import evidence_cloud
from pixloc_ros.image_conversions import array_to_image, image_to_array


@pytest.mark.parametrize("size", SIZES)
def test_an_image_costs_less_than_its_limit(size):
    """The cheapest image: what the others cost more is due to other programs."""
    cost = measure(Case(size, "bgr8"), frames=30)
    assert 0 < min(cost.cpu_ms) < SIZES[size]


def test_large_messages_hold_arrays_that_are_never_walked_through():
    image = array_to_image(np.zeros((1080, 1920), np.float32), "32FC1", Header())
    points = torch.zeros(3, 3).double().numpy()
    cloud = evidence_cloud(evidence(), points, Header())
    for message in (image, cloud):
        assert type(message.data) is array.array


def test_pixels_of_a_message_are_not_copied():
    sent = array_to_image(np.zeros((1080, 1920, 3), np.uint8), "rgb8", Header())
    message = deserialize_message(serialize_message(sent), Image)
    pixels = image_to_array(message)
    assert np.shares_memory(pixels, np.frombuffer(message.data, np.uint8))
