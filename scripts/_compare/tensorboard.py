"""The columns of TensorBoard's HParams tab: the settings that vary, and the final metrics."""

from collections.abc import Iterable, Sequence
from pathlib import Path

from tensorboard.compat.proto.summary_pb2 import Summary
from tensorboard.plugins.hparams import api_pb2, metadata
from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData
from torch.utils.tensorboard import SummaryWriter

from _common.run import flatten
from _compare.grid import Combination
from lightning_modules.runs.loggers import card


def announce(folder: Path, combinations: Sequence[Combination], seeds: Sequence[int], metrics: Iterable[str]) -> None:
    """Select the columns among the runs' many settings and final metrics: what varies, and the given metrics."""
    for old in folder.glob("events.out.tfevents.*"):
        old.unlink()
    configs = [flatten(one.config) for one in combinations]
    varied = dict.fromkeys(key for one in combinations for key in one.varied)
    settings = {key: [config[key] for config in configs if key in config] for key in varied}
    settings["seed_everything"] = list(seeds)
    infos = [_info(name, values) for name, values in settings.items() if values]
    columns = [
        api_pb2.MetricInfo(name=api_pb2.MetricName(tag=card(f"final/{name}")), display_name=name) for name in metrics
    ]
    content = HParamsPluginData(experiment=api_pb2.Experiment(hparam_infos=infos, metric_infos=columns))
    described = metadata.create_summary_metadata(content)
    value = Summary.Value(tag=metadata.EXPERIMENT_TAG, metadata=described, tensor=metadata.NULL_TENSOR)
    with SummaryWriter(str(folder)) as writer:
        writer.file_writer.add_summary(Summary(value=[value]))


def _info(name: str, values: Sequence[object]) -> api_pb2.HParamInfo:
    texts = sorted(set(map(str, values)))
    info = api_pb2.HParamInfo(name=name, display_name=name.removesuffix(".class_path"), differs=len(texts) > 1)
    numbers = [float(value) for value in values if isinstance(value, int | float) and not isinstance(value, bool)]
    if len(numbers) == len(values):
        info.type = api_pb2.DATA_TYPE_FLOAT64
        info.domain_interval.min_value, info.domain_interval.max_value = min(numbers), max(numbers)
    else:
        info.type = api_pb2.DATA_TYPE_STRING
        info.domain_discrete.extend(texts)
    return info
