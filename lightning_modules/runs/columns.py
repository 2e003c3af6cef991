"""The columns of TensorBoard's HParams tab."""

from collections.abc import Collection, Mapping, Sequence

from tensorboard.compat.proto.summary_pb2 import Summary
from tensorboard.plugins.hparams import api_pb2, metadata
from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData


def columns(settings: Mapping[str, Sequence[object]], tags: Mapping[str, str], first: Collection[str] = ()) -> Summary:
    """Return the event that chooses the columns of the HParams tab.

    TensorBoard takes it from one of the runs that it shows, so that all of them should write the same columns. Without
    it the tab has one for every setting, and the first metrics in alphabetical order.

    Args:
        settings: Names of the settings, with the values that runs may have. With one value, or none, runs may have
            others.
        tags: Tags of the metrics in the order of their columns, with their titles.
        first: Settings that are shown first, because runs differ in them. TensorBoard shows five settings until others
            are chosen, in the order of their names.

    >>> columns({"optimizer": ["LAMB"], "lr": [0.01]}, {"results/test/nll": "test/nll"}).value[0].tag
    '_hparams_/experiment'
    """
    infos = [_info(name, values, name in first) for name, values in settings.items()]
    metrics = [api_pb2.MetricInfo(name=api_pb2.MetricName(tag=tag), display_name=title) for tag, title in tags.items()]
    content = HParamsPluginData(experiment=api_pb2.Experiment(hparam_infos=infos, metric_infos=metrics))
    described = metadata.create_summary_metadata(content)
    return Summary(value=[Summary.Value(tag=metadata.EXPERIMENT_TAG, metadata=described, tensor=metadata.NULL_TENSOR)])


def _info(name: str, values: Sequence[object], differs: bool) -> api_pb2.HParamInfo:
    info = api_pb2.HParamInfo(name=name, differs=differs)
    numbers = [float(value) for value in values if isinstance(value, int | float) and not isinstance(value, bool)]
    info.type = api_pb2.DATA_TYPE_FLOAT64 if len(numbers) == len(values) else api_pb2.DATA_TYPE_STRING
    texts = sorted(set(map(str, values)))
    if len(texts) > 1 and len(numbers) == len(values):
        info.domain_interval.min_value, info.domain_interval.max_value = min(numbers), max(numbers)
    elif len(texts) > 1:
        info.domain_discrete.extend(texts)
    return info
