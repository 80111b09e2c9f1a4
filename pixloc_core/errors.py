"""The exceptions of this project.

    PixlocError
    ├── ConfigError       a setting: unknown key, wrong type, out of range
    ├── ShapeError        a tensor whose shape does not fit
    ├── FormatError       a text file, message or bag that cannot be understood
    ├── ImageError        an image that cannot be read, used or written
    ├── MapError          a COLMAP model or a feature map file
    ├── CheckpointError   network weights
    ├── TrainingError     a training run that cannot begin or go on
    └── FrameError        a coordinate transform that cannot be had

Every message is one line: what was found, where, and what was expected. Outcomes that are part of
the normal work (too few points, no convergence) are values in the results, never exceptions.
"""


class PixlocError(Exception):
    """Base of all errors raised on purpose by this project."""


class ConfigError(PixlocError):
    """A setting is unknown, of the wrong type or out of range."""


class ShapeError(PixlocError):
    """A tensor does not have the shape it must have."""


class FormatError(PixlocError):
    """A text file, message or bag does not follow its format."""


class ImageError(PixlocError):
    """An image cannot be read, used or written."""


class MapError(PixlocError):
    """A COLMAP model or a feature map file is missing, damaged or does not fit."""


class CheckpointError(PixlocError):
    """A weights file is missing, damaged, unsafe or does not fit."""


class TrainingError(PixlocError):
    """A training run cannot begin, or cannot go on."""


class FrameError(PixlocError):
    """A transform between two coordinate frames cannot be had."""
