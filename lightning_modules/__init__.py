"""An image classifier for any backbone, its backbones, and the callbacks and writers of runs that resume exactly."""

from . import backbones as backbones
from .callbacks import LastCheckpoint as LastCheckpoint
from .callbacks import NonFiniteLossError as NonFiniteLossError
from .callbacks import PredictionCSV as PredictionCSV
from .callbacks import TrainingMonitor as TrainingMonitor
from .callbacks import TrainingProgress as TrainingProgress
from .callbacks import WeightAverage as WeightAverage
from .classifier import ImageClassifier as ImageClassifier
from .runs import AtomicCheckpointIO as AtomicCheckpointIO
from .runs import CSVLog as CSVLog
from .runs import TensorBoardLog as TensorBoardLog
from .runs import load_matching as load_matching
from .runs import read_checkpoint as read_checkpoint
from .runs import read_column as read_column
from .schedule import Schedule as Schedule
from .two_pass import TwoPassMixin as TwoPassMixin
