"""Lightning callbacks: curves, checkpoints, progress, averaged weights and predictions of a run."""

from .last_checkpoint import LastCheckpoint as LastCheckpoint
from .prediction_csv import PredictionCSV as PredictionCSV
from .progress import TrainingProgress as TrainingProgress
from .training_monitor import NonFiniteLossError as NonFiniteLossError
from .training_monitor import TrainingMonitor as TrainingMonitor
from .training_monitor import optimizer_scalars as optimizer_scalars
from .weight_average import WeightAverage as WeightAverage
