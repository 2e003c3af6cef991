"""TensorBoard's event file, written so that a full disk loses events and not the training."""

import os
import socket
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import IO, Any

from tensorboard.compat.proto.event_pb2 import Event, SessionLog
from tensorboard.summary.writer.record_writer import RecordWriter
from torch.utils.tensorboard import FileWriter, SummaryWriter

FLUSH_SECONDS = 30.0


class EventFile:
    """Takes the place of TensorBoard's EventFileWriter, whose thread dies of a write that the disk refuses.

    A refused write drops the events since the last flush; the file ends with the last whole one, and continues when
    there is room again.

    Args:
        folder: The folder of the file, which is made by the first write.
        refused: Called with the error of each refused write.
    """

    def __init__(self, folder: str | Path, refused: Callable[[OSError], None]) -> None:
        name = f"events.out.tfevents.{int(time.time()):010d}.{socket.gethostname()}.{os.getpid()}.{time.monotonic_ns()}"
        self.path, self._refused = Path(folder) / name, refused
        self._file: IO[bytes] | None = None
        self._whole = 0  # length of the file that is known to be written
        self._next_flush = 0.0

    def get_logdir(self) -> str:
        """Return the folder."""
        return str(self.path.parent)

    def add_event(self, event: Event) -> None:
        """Append an event."""
        try:
            if self._file is None:
                self.path.parent.mkdir(parents=True, exist_ok=True)
                self._file = open(self.path, "ab")  # noqa: SIM115 (closed by close)
                if self._whole == 0:
                    first = Event(wall_time=time.time(), file_version="brain.Event:2")
                    RecordWriter(self._file).write(first.SerializeToString())
            RecordWriter(self._file).write(event.SerializeToString())
        except OSError as error:
            self._refuse(error)
        else:
            if time.monotonic() >= self._next_flush:
                self.flush()

    def flush(self) -> None:
        """Write what is pending."""
        self._next_flush = time.monotonic() + FLUSH_SECONDS
        if self._file is None:
            return
        try:
            self._file.flush()
            self._whole = self._file.tell()
        except OSError as error:
            self._refuse(error)

    def close(self) -> None:
        """Write what is pending, and close the file."""
        self.flush()
        if self._file is not None:
            self._file.close()
            self._file = None

    def reopen(self) -> None:
        """Do nothing: the next event opens the file."""

    def _refuse(self, error: OSError) -> None:
        if self._file is not None:
            with suppress(OSError):  # it tries to write what is pending
                self._file.close()
            self._file = None
        with suppress(OSError):
            os.truncate(self.path, self._whole)
            if self._whole == 0:
                self.path.unlink()
        self._refused(error)


class EventWriter(SummaryWriter):
    """A SummaryWriter with an `EventFile`.

    Args:
        folder: The folder of the file.
        refused: Called with the error of each refused write.
        purge_step: TensorBoard hides the values logged at this step or later, before.
    """

    def __init__(
        self, folder: str | Path, refused: Callable[[OSError], None], purge_step: int | None = None, **kwargs: Any
    ) -> None:
        self._refused = refused
        super().__init__(str(folder), purge_step=purge_step, **kwargs)

    def _get_file_writer(self) -> FileWriter:  # PyTorch's own, which opens TensorBoard's file, has no public name
        writer: FileWriter | None = self.file_writer
        if writer is None:
            writer = _Opened(EventFile(self.log_dir, self._refused))
            vars(self).update(file_writer=writer, all_writers={writer.get_logdir(): writer})
            if self.purge_step is not None:
                writer.add_event(Event(step=self.purge_step, file_version="brain.Event:2"))
                writer.add_event(Event(step=self.purge_step, session_log=SessionLog(status=SessionLog.START)))
                self.purge_step = None
        return writer


class _Opened(FileWriter):
    def __init__(self, event_writer: EventFile) -> None:
        self.event_writer = event_writer
