"""A node of this package as a process of its own: start, watch, stop, kill."""

import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType

import yaml

Parameters = Mapping[str, bool | int | float | str]
LOCALIZER, RETRIEVAL = "pixloc_ros.localizer_node", "pixloc_ros.retrieval_node"
_STOP_S = 5.0


class NodeProcess:
    """A node with parameters and remappings; ends with its `with` block.

    Args:
        parameters: Parameters that differ from their defaults, by dotted name.
        remappings: Topics by the name that the node uses.
        log: File for what the node says.
        module: Its Python module.
    """

    def __init__(
        self,
        parameters: Parameters,
        remappings: Mapping[str, str],
        log: Path,
        module: str = LOCALIZER,
    ) -> None:
        self._log = log
        params_file = log.with_suffix(".params.yaml")
        self._command = node_command(parameters, remappings, params_file, module)
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> "NodeProcess":
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()

    def start(self) -> None:
        """Start the node; what an earlier one said stays in the log."""
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                self._command,
                stdout=log,
                stderr=subprocess.STDOUT,
                stdin=subprocess.DEVNULL,
                env=os.environ | {"PYTHONUNBUFFERED": "1"},
                # Ctrl-C in a terminal is for the parent, which then stops the node in order.
                start_new_session=True,
            )

    @property
    def alive(self) -> bool:
        """Whether it runs."""
        return self._process is not None and self._process.poll() is None

    @property
    def pid(self) -> int | None:
        """Number of the process; None before the start."""
        return self._process.pid if self._process is not None else None

    @property
    def exit_code(self) -> int | None:
        """How it ended, or None while it runs."""
        return self._process.poll() if self._process is not None else None

    def kill(self) -> None:
        """End it as a power cut would."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    def stop(self) -> None:
        """Ask it to end; kill it if it does not."""
        if self._process is None or not self.alive:
            return
        self._process.send_signal(signal.SIGINT)
        try:
            self._process.wait(_STOP_S)
        except subprocess.TimeoutExpired:
            self.kill()

    def last_words(self, lines: int = 15) -> str:
        """End of its log."""
        text = self._log.read_text(errors="replace") if self._log.exists() else ""
        return "\n".join(text.splitlines()[-lines:])


def node_command(
    parameters: Parameters,
    remappings: Mapping[str, str],
    params_file: Path,
    module: str = LOCALIZER,
) -> list[str]:
    """Command line of the node; its parameters go into a file, where any string is safe."""
    params_file.write_text(yaml.safe_dump({"/**": {"ros__parameters": dict(parameters)}}))
    command = [sys.executable, "-m", module, "--ros-args"]
    for name, topic in remappings.items():
        command += ["-r", f"{name}:={topic}"]
    return [*command, "--params-file", str(params_file)]
