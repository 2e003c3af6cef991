"""The files of a run that survive a kill: atomic checkpoints, and loggers that continue after a resume."""

from .checkpoint_io import AtomicCheckpointIO as AtomicCheckpointIO
from .checkpoint_io import load_matching as load_matching
from .checkpoint_io import read_checkpoint as read_checkpoint
from .loggers import CSVLog as CSVLog
from .loggers import TensorBoardLog as TensorBoardLog
from .loggers import read_column as read_column
