"""HDF5 files that are there as a whole, or not at all."""

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import h5py

from pixloc_core.errors import MapError


@contextmanager
def new_hdf5(path: str | Path) -> Iterator[h5py.File]:
    """Write an HDF5 file: it appears under its name when all of it is on the disk.

    Args:
        path: The file; an existing one is replaced at the end.

    Raises:
        MapError: If the folder cannot be written.
    """
    target = Path(path)
    try:
        handle, name = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}.")
    except OSError as error:
        raise MapError(f"{target}: cannot be written ({error.strerror})") from error
    os.close(handle)
    temporary = Path(name)
    try:
        with h5py.File(temporary, "w", libver="v110") as file:
            yield file
        _publish(temporary, target)
    finally:
        temporary.unlink(missing_ok=True)


def _publish(temporary: Path, target: Path) -> None:
    """Bring the file to the disk, then under its name, with the rights a new file would have."""
    with temporary.open("rb+") as stream:
        os.fsync(stream.fileno())
    umask = os.umask(0)
    os.umask(umask)
    temporary.chmod(0o666 & ~umask)
    os.replace(temporary, target)
