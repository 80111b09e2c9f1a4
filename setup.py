"""Entry for pip; all metadata stand in setup.cfg. colcon builds through CMakeLists.txt."""

from setuptools import setup

setup()
