"""FAISS, where it is installed."""

from typing import Any

from pixloc_core.errors import ConfigError


def require_faiss() -> Any:
    """The module `faiss`.

    Raises:
        ConfigError: If it is not installed; the message says what to install.
    """
    try:
        import faiss
    except ImportError as error:
        raise ConfigError(
            "retrieval needs FAISS, which is not installed: pip install faiss-cpu, or the extra "
            "pixloc_ros[retrieval]"
        ) from error
    return faiss
