"""The image classifier: a Lightning module for any backbone, activation and optimizer."""

from collections.abc import Callable
from typing import Any, ClassVar, Literal, cast

import torch
from pytorch_lightning import Callback
from pytorch_lightning.utilities.types import OptimizerLRScheduler
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from . import factories, networks
from .arguments import check_arguments
from .callbacks.optimizer_modes import OptimizerModes
from .callbacks.start_checks import StartChecks
from .callbacks.weight_average import WeightAverage
from .capturing import Captured, captured
from .checked_labels import LabelChecks
from .compiling import Compiled, compiled, is_worth_compiling
from .epoch_sums import EpochSums
from .fine_tuned import FineTuned
from .initial_images import initialise_from_data
from .known_data import KnownData
from .linear_decay import steps_of, with_total
from .loss import at_least_float32, classification_loss, dominant
from .memory_format import MemoryFormat
from .metrics import METRICS, Metric
from .optimization import build_optimizer, default_optimizer, default_scheduler, penalty, with_schedule
from .runs.checked_loading import CheckedLoading
from .six_views import SUFFIX, six_views
from .two_pass import TwoPassMixin

Batch = tuple[Tensor, Tensor] | list[Tensor]


class ImageClassifier(TwoPassMixin, FineTuned, MemoryFormat, LabelChecks, KnownData, CheckedLoading):
    """Trains any network that maps images to logits, with cross-entropy.

    A batch is `(images, labels)`: float `[N, *image_shape]`, normalised, and int64 `[N]`, or probabilities `[N, K]` (of
    mixed images), whose largest is the label for the metrics. The loss is

        cross_entropy(logits, labels, label_smoothing) + l1 * sum |w| + l2 * sum w^2

    where w runs over the trainable tensors with at least two dimensions (weights, not biases or norm scales). Logged at
    the end of each epoch, as means over the examples of all processes: `train/loss` (the loss above), and each of
    `metrics` for `train/`, `val/` and `test/`: `nll` (plain cross-entropy), `accuracy` and, with more than five
    classes, `top5_accuracy`. A second validation loader is a test set that is watched during training: `test/...` too.

    To add a metric, add it to `metrics.METRICS`, or in a subclass: `metrics = ImageClassifier.metrics | {"mse": mse}`.

    `backbone`, `activation`, `optimizer` and `lr_scheduler` may each be a name, a class, a function, a
    `functools.partial`, a lambda, an import path, `{"class_path": path, "init_args": {...}}`, or a finished object (a
    network, an activation that is copied for each site, an optimizer of the network's parameters). They are kept as
    plain data in `hparams` and in checkpoints, so that `load_from_checkpoint` rebuilds the same network. What cannot be
    written so (a lambda, a function inside another one, an object) is marked there, and `load_from_checkpoint` asks for
    it. A subclass with arguments of its own only passes on the others. For SAM and LBFGS see `TwoPassMixin`.

    Args:
        backbone: A network that maps images to logits, a factory, or a name (in `backbones`, or any timm model). A
            factory gets those of the keywords `num_classes`, `image_shape` and `activation` that it names.
        num_classes: Number of classes, at least 2.
        image_shape: Shape of one example: `(C, H, W)`, or `(D,)` for tables.
        activation: Factory of the activation modules, called without arguments once per site. None: the backbone's own
            (ReLU in ours; a factory that requires an activation gets ReLU too).
        optimizer: Factory called with the parameters (or parameter groups). None: AdamW.
        lr_scheduler: Factory called with the optimizer, or the text of a `Schedule` ("warmup 5%, cosine"). None: one
            cycle over the whole training if `optimizer` is None too, otherwise a constant rate.
        lr_interval: Whether a given `lr_scheduler` counts epochs or steps. None: steps for `OneCycleLR`, `CyclicLR` and
            what contains one, epochs for the others. `ReduceLROnPlateau` watches `val/nll`, or its own `monitor`.
        label_smoothing: Share of each label spread over all classes, in [0, 1).
        loss_reduction: `mean` over the batch, or `sum`, with which `train/loss` is still the loss of an example.
        l1: Weight of the sum of absolute weights.
        l2: Weight of the sum of squared weights (separate from the optimizer's weight decay).
        no_decay_on_1d: Exclude biases and norm scales from weight decay, by a second parameter group.
        parameter_groups: The optimizer's options by names: `[{"match": "head", "lr": 0.1}]`, see `named_groups`.
        freeze: Freeze the backbone but its head (True), or the parameters whose names match a regular expression.
        unfreeze: Epoch, counted from 0, from which the frozen part is trained too. None: never.
        train_bn: Train batch normalisation within the frozen part. Otherwise its statistics are frozen too.
        layer_decay: Factor of the learning rate from each layer to the one before it, in (0, 1], see `LayerRates`.
        head_lr: Learning rate of the head, in place of the optimizer's.
        channels_last: Keep images and kernels channels-last; `auto`: while a Trainer runs convolutions on CPU or CUDA.
        compile: Compile the backbone for the first batch of training and of evaluation (others run as they are); warn
            if no compiler works. `auto`: for a long training with CUDA.
        cuda_graph: Replay the forward and backward pass of training batches of one shape as CUDA graphs; others run as
            they are. `auto`: on one CUDA device, with a warning where the network cannot be captured (True: an error).
        ema_decay: Decay per step of an exponential moving average of the weights, in (0, 1). The average is then
            validated, tested and saved. None: no average.
        test_time_augmentation: Test the mean over `six_views` of each image too: `test/accuracy_tta` and so on.

    Raises:
        ValueError: If an argument has a bad value.

    >>> model = ImageClassifier("TwoLayerNet", image_shape=(1, 28, 28), activation=nn.GELU)
    >>> model(torch.zeros(2, 1, 28, 28)).shape
    torch.Size([2, 10])
    >>> model.hparams.activation
    'torch.nn.GELU'
    """

    metrics: ClassVar[dict[str, Metric]] = METRICS
    """Functions of logits and labels that give one value an example, by the name under which their means are logged."""
    lr: float | None = None
    """Learning rate in place of the optimizer's own; set by Lightning's learning rate finder."""

    def __init__(
        self,
        backbone: factories.BackboneFactory | str = "resnet20",
        num_classes: int = 10,
        image_shape: tuple[int, ...] = (3, 32, 32),
        activation: factories.ActivationFactory | str | None = None,
        optimizer: factories.OptimizerFactory | str | None = None,
        lr_scheduler: factories.SchedulerFactory | str | None = None,
        *,
        lr_interval: Literal["epoch", "step"] | None = None,
        label_smoothing: float = 0.0,
        loss_reduction: Literal["mean", "sum"] = "mean",
        l1: float = 0.0,
        l2: float = 0.0,
        no_decay_on_1d: bool = False,
        parameter_groups: list[dict[str, Any]] | None = None,
        freeze: bool | str = False,
        unfreeze: int | None = None,
        train_bn: bool = False,
        layer_decay: float | None = None,
        head_lr: float | None = None,
        channels_last: bool | Literal["auto"] = "auto",
        compile: bool | Literal["auto"] = False,
        cuda_graph: bool | Literal["auto"] = "auto",
        ema_decay: float | None = None,
        test_time_augmentation: bool = False,
    ) -> None:
        super().__init__()
        self.num_classes, self.image_shape, self.lr_interval = num_classes, tuple(image_shape), lr_interval
        self.label_smoothing, self.loss_reduction, self.l1, self.l2 = label_smoothing, loss_reduction, l1, l2
        self.test_time_augmentation = test_time_augmentation
        self.channels_last, self._cuda_graph, self.ema_decay = channels_last is True, cuda_graph, ema_decay
        check_arguments(self, cuda_graph)
        given: dict[str, Any] = {"backbone": networks.plain_backbone(backbone), "image_shape": list(image_shape)}
        make = networks.backbone_factory(backbone, given["backbone"])
        if activation is None and networks.requires_activation(make):
            activation = nn.ReLU
        parts: dict[str, Any] = {"activation": activation, "optimizer": optimizer, "lr_scheduler": lr_scheduler}
        self._make: dict[str, Callable[..., Any] | None] = {}
        for (name, value), product in zip(parts.items(), (nn.Module, Optimizer, LRScheduler), strict=True):
            given[name] = None if value is None else factories.plain(value, name, product)
            self._make[name] = None if value is None else factories.callable_of(value, given[name], name)
        self.save_hyperparameters(ignore=list(given))
        # Lightning's command line adds private entries that rebuild its own form of the arguments.
        for name in [name for name in self.hparams if name.startswith("_")]:
            self.hparams.pop(name)
        self.save_hyperparameters(given)
        self.backbone = networks.build(make, num_classes, self.image_shape, self._make.pop("activation"))
        self._fine_tune(freeze, unfreeze, train_bn, layer_decay, head_lr)
        if self.channels_last:
            self.backbone.to(memory_format=torch.channels_last)
        example = torch.zeros(1, num_classes), torch.zeros(1, dtype=torch.long)
        self._metrics = {name: metric for name, metric in self.metrics.items() if metric(*example) is not None}
        self._train_sums = EpochSums(self._metrics, loss=True)
        self._eval_sums: dict[str, EpochSums] = {}
        self._average, self._loaded_sums = cast(WeightAverage | None, None), cast(Tensor | None, None)
        self._compiled, self._captured = cast(Compiled | None, None), cast(Captured | None, None)

    def __getstate__(self) -> dict[str, Any]:
        """Return what is copied and pickled; a copy is compiled and captured again."""
        return super().__getstate__() | {"_compiled": None, "_captured": None}

    def forward(self, images: Tensor) -> Tensor:
        """Return the logits `[N, K]` of images `[N, *image_shape]`.

        Raises:
            ValueError: If the images have another shape, or the network returns anything but such logits.
        """
        networks.check_images(images, self.image_shape)
        if images.dtype in (torch.bfloat16, torch.float16) and not torch.is_autocast_enabled(images.device.type):
            images = images.to(next(self.backbone.parameters(), images).dtype)  # a callback's, of a training batch
        if self.channels_last and images.ndim == 4:
            images = images.contiguous(memory_format=torch.channels_last)
        return networks.checked_logits((self._captured or self._compiled or self.backbone)(images), self.num_classes)

    def training_step(self, batch: Batch, batch_idx: int) -> dict[str, Tensor]:
        """Return the loss, and add loss and metrics to the epoch's sums."""
        images, labels = self.checked(*batch)
        logits = at_least_float32(self(images))
        loss = classification_loss(logits, labels, self.label_smoothing, self.loss_reduction)
        if self.l1 or self.l2:
            loss = loss + penalty(self.backbone, self.l1, self.l2)
        if not self.replaying:
            self._train_sums.add(logits.detach(), labels, loss.detach(), self.loss_reduction == "sum")
        return {"loss": loss}

    def on_train_epoch_end(self) -> None:
        """Log the epoch's means."""
        self._log_means("train", self._train_sums)

    def validation_step(self, batch: Batch, batch_idx: int, dataloader_idx: int = 0) -> dict[str, Tensor]:
        """Evaluate a batch of the validation loader (0) or of a watched test loader (1)."""
        return self._evaluate(batch, ("val", "test"), dataloader_idx)

    def test_step(self, batch: Batch, batch_idx: int, dataloader_idx: int = 0) -> dict[str, Tensor]:
        """Evaluate a batch of the test loader."""
        outputs = self._evaluate(batch, ("test",), dataloader_idx)
        if self.test_time_augmentation:
            mean = six_views(lambda views: at_least_float32(self(views)), batch[0], outputs["logits"])
            self._eval_sums.setdefault("test" + SUFFIX, EpochSums(self._metrics)).add(mean, outputs["labels"])
        return outputs

    def predict_step(self, batch: Any, batch_idx: int, dataloader_idx: int = 0) -> dict[str, Any]:
        """Return the class probabilities, the predicted class and, if the batch has them, labels or names of files."""
        images, *rest = (batch,) if isinstance(batch, Tensor) else batch
        probabilities = at_least_float32(self(images)).softmax(1)
        predicted = {"probabilities": probabilities, "prediction": probabilities.argmax(1)}
        return predicted | {"label" if isinstance(one, Tensor) else "file": one for one in rest}

    def on_validation_epoch_start(self) -> None:
        """Start the sums from zero."""
        self._eval_sums = {}

    def on_validation_epoch_end(self) -> None:
        """Log the means of each loader."""
        for stage, sums in self._eval_sums.items():
            self._log_means(stage, sums)

    on_test_epoch_start = on_validation_epoch_start
    on_test_epoch_end = on_validation_epoch_end

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """Build the optimizer and the scheduler, after the model has been placed and sharded."""
        make, make_scheduler = self._make["optimizer"], self._make["lr_scheduler"]
        options: dict[str, Any] = {"lr": self.lr, "wanted": self.hparams["parameter_groups"] or ()}
        with self._all_parts():
            optimizer = build_optimizer(
                make or default_optimizer, self, self.hparams["no_decay_on_1d"], layers=self._layers, **options
            )
        total = steps_of(self)
        if make_scheduler is not None:
            return with_schedule(optimizer, with_total(make_scheduler, total), self.lr_interval, lambda: self.trainer)
        return optimizer if make else with_schedule(optimizer, lambda one: default_scheduler(one, total), "step")

    def configure_callbacks(self) -> list[Callback]:
        """Add the checks before the first step, the optimizer's modes and, with `ema_decay`, the average's callback."""
        if self.ema_decay is not None:
            self._average = WeightAverage(self.ema_decay, self.trainer.strategy.root_device)
        return [one for one in (self._freezing, StartChecks(), OptimizerModes(), self._average) if one is not None]

    def setup(self, stage: str) -> None:
        """Reset the sums of an earlier training, and compile the backbone, if asked for."""
        super().setup(stage)
        self._train_sums.reset()
        self._loaded_sums = None
        if self.hparams["compile"] is True:
            self._compiled = self._compiled or compiled(self.backbone, self.trainer.strategy.root_device)

    def teardown(self, stage: str) -> None:
        """Leave the network as it was made, so that it computes what a loaded one computes."""
        super().teardown(stage)
        self._captured = None  # and its memory

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Save the sums of the epoch so far, over all processes."""
        super().on_save_checkpoint(checkpoint)
        checkpoint["epoch_sums"] = self._reduced(self._train_sums).cpu()
        if self._average is not None and "current_model_state" not in checkpoint:
            self._average.replace_weights(checkpoint)  # Lightning skips the callback when it saves weights only

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Keep the saved sums until training starts."""
        super().on_load_checkpoint(checkpoint)
        self._loaded_sums = checkpoint.get("epoch_sums")

    def on_train_start(self) -> None:
        """Continue from the saved sums, on one process; compile the backbone if that pays, and capture it."""
        super().on_train_start()
        initialise_from_data(self.backbone, self.trainer.train_dataloader)
        if self.hparams["compile"] == "auto" and is_worth_compiling(self.trainer):
            self._compiled = self._compiled or compiled(self.backbone, self.device)
        self._captured = captured(self.backbone, self._compiled or self.backbone, self._cuda_graph, self.trainer)
        # A checkpoint of other metrics has other sums; the epoch's means are then those of its rest.
        sums = self._loaded_sums
        if sums is not None and len(sums) == len(self._train_sums.names) + 1 and self.trainer.is_global_zero:
            self._train_sums.load(sums.to(self.device))

    def _evaluate(self, batch: Batch, stages: tuple[str, ...], dataloader_idx: int) -> dict[str, Tensor]:
        if dataloader_idx >= len(stages):
            raise ValueError(f"expected at most {len(stages)} loaders ({', '.join(stages)}), found more")
        images, labels = self.checked(*batch)
        logits = at_least_float32(self(images))
        self._eval_sums.setdefault(stages[dataloader_idx], EpochSums(self._metrics)).add(logits, labels)
        return {"logits": logits, "labels": dominant(labels)}

    def _log_means(self, stage: str, sums: EpochSums) -> None:
        stage, views, _ = stage.partition(SUFFIX)
        for name, mean in sums.means(self._reduced(sums)).items():
            # A mean already, over all processes: batch_size=1 spares Lightning a search, sync_dist=True a warning.
            self.log(f"{stage}/{name}{views}", mean, prog_bar=name == "accuracy", batch_size=1, sync_dist=True)
        sums.reset()

    def _reduced(self, sums: EpochSums) -> Tensor:
        self.report_labels()
        return self.trainer.strategy.reduce(sums.vector(self.device), reduce_op="sum")
