"""The columns of TensorBoard's HParams tab: the settings that vary, and the final metrics."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from tensorboard.compat.proto.summary_pb2 import Summary, SummaryMetadata
from tensorboard.plugins.hparams import api_pb2, metadata
from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData
from torch.utils.tensorboard import SummaryWriter


def write_experiment(folder: Path, settings: Mapping[str, Sequence[object]], metrics: Iterable[str]) -> None:
    """Select the columns among the runs' many settings and metrics.

    Args:
        folder: Folder of the comparison, above its runs.
        settings: Key of the flat configuration -> its values.
        metrics: Names of the final metrics.
    """
    for old in folder.glob("events.out.tfevents.*"):
        old.unlink()
    infos = [_info(name, values) for name, values in settings.items()]
    columns = [api_pb2.MetricInfo(name=api_pb2.MetricName(tag=f"final/{name}"), display_name=name) for name in metrics]
    experiment = api_pb2.Experiment(hparam_infos=infos, metric_infos=columns)
    content = HParamsPluginData(experiment=experiment, version=metadata.PLUGIN_DATA_VERSION)
    plugin = SummaryMetadata.PluginData(plugin_name=metadata.PLUGIN_NAME, content=content.SerializeToString())
    value = Summary.Value(
        tag=metadata.EXPERIMENT_TAG, metadata=SummaryMetadata(plugin_data=plugin), tensor=metadata.NULL_TENSOR
    )
    with SummaryWriter(str(folder)) as writer:
        writer.file_writer.add_summary(Summary(value=[value]))


def _info(name: str, values: Sequence[object]) -> api_pb2.HParamInfo:
    info = api_pb2.HParamInfo(name=name, display_name=name.removesuffix(".class_path"))
    info.differs = len(set(map(str, values))) > 1
    if all(isinstance(value, int | float) and not isinstance(value, bool) for value in values):
        numbers = [float(value) for value in values if isinstance(value, int | float)]
        info.type = api_pb2.DATA_TYPE_FLOAT64
        info.domain_interval.min_value, info.domain_interval.max_value = min(numbers), max(numbers)
    else:
        info.type = api_pb2.DATA_TYPE_STRING
        info.domain_discrete.extend(sorted(set(map(str, values))))
    return info
