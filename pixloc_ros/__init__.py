"""ROS 2 nodes on top of `pixloc_core`.

Under pip the generated messages (`pixloc_ros.msg`) live in site-packages and the sources in the
repository; this makes one package of both, whichever of them is found first.
"""

from pkgutil import extend_path

__path__ = extend_path(__path__, __name__)
