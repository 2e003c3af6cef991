"""The image classifier: any backbone, activation and optimizer under one Lightning module."""

import inspect
from collections.abc import Callable
from typing import Any, Literal

import torch
import torch.nn.functional as F
from pytorch_lightning import Callback, LightningModule
from pytorch_lightning.trainer.states import TrainerFn
from pytorch_lightning.utilities.types import OptimizerLRScheduler
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler, ReduceLROnPlateau

from .callbacks.weight_average import WeightAverage
from .epoch_sums import EpochSums
from .factories import (
    ActivationFactory,
    BackboneFactory,
    OptimizerFactory,
    Plain,
    SchedulerFactory,
    build_backbone,
    compile_in_place,
    factory,
    plain,
    plain_backbone,
)
from .optimization import build_optimizer, house_optimizer, house_scheduler, penalty
from .two_pass import TwoPass, evaluates_repeatedly

# Lightning passes over a hook that is not callable, but wraps an empty one in a profiler context for every batch.
_BATCH_HOOKS = (
    "on_train_batch_start",
    "on_before_zero_grad",
    "on_before_backward",
    "on_after_backward",
    "on_before_optimizer_step",
    "on_train_batch_end",
)

Batch = tuple[Tensor, Tensor] | list[Tensor]


class ImageClassifier(LightningModule):
    """Trains any network that maps images to logits, with cross-entropy.

    A batch is `(images, labels)`: float `[N, *image_shape]`, normalised, and int64 `[N]`. The loss is

        cross_entropy(logits, labels, label_smoothing) + l1 * sum |w| + l2 * sum w^2

    where w runs over the trainable tensors with at least two dimensions (weights; not biases and norm scales). Logged
    at the end of each epoch, as means over examples (over all processes): `train/loss` (the loss above) and
    `train/accuracy`; on validation `val/nll` (plain cross-entropy), `val/accuracy` and, with more than five classes,
    `val/top5_accuracy`; on test the same as `test/...`. A second validation loader is taken for a test set that is
    watched while training, and is logged as `test/...` too.

    `backbone`, `activation`, `optimizer` and `lr_scheduler` are factories: a class, a function annotated with what it
    returns, a `functools.partial` of one, an import path, or `{"class_path": path, "init_args": {...}}`. They are kept
    as plain data in `hparams` and in checkpoints, so `ImageClassifier.load_from_checkpoint` rebuilds the same network
    and `torch.load(weights_only=True)` reads the file. A subclass that adds arguments needs nothing more than to pass
    the others on.

    Optimizers that evaluate the loss more than once a step (SAM and its kind, LBFGS) need nothing special: see
    `two_pass.TwoPass`.

    Args:
        backbone: A name (ours, what `backbones` exports, else any timm model) or a factory called with the keywords
            `num_classes`, `image_shape` and `activation`.
        num_classes: Number of classes, at least 2.
        image_shape: Shape of one example: `(C, H, W)`, or `(D,)` for tables.
        activation: Factory of the activation modules, called without arguments once for each site. None: the
            backbone's own default.
        optimizer: Factory called with the parameters (or parameter groups). None: AdamW.
        lr_scheduler: Factory called with the optimizer. None: one cycle over the whole training if the optimizer is
            None too, else a constant rate.
        lr_interval: Whether a given `lr_scheduler` counts epochs or steps. `ReduceLROnPlateau` watches `val/nll`, or
            its own `monitor`.
        label_smoothing: Share of each label spread over all classes, in [0, 1).
        l1: Weight of the sum of absolute weights.
        l2: Weight of the sum of squared weights (apart from the optimizer's weight decay).
        no_decay_on_1d: Keep biases and norm scales out of weight decay, as a second parameter group.
        channels_last: Keep images and kernels in channels-last memory format.
        compile: Compile the backbone with `torch.compile` when a Trainer starts; without a working compiler a warning
            says so and training goes on uncompiled.
        ema_decay: Decay per step of an exponential moving average of the weights, in (0, 1), which is then what is
            validated, tested and saved. None: no average.

    Raises:
        ValueError: If an argument has a bad value.

    >>> model = ImageClassifier("TwoLayerNet", image_shape=(1, 28, 28), activation=nn.GELU)
    >>> model(torch.zeros(2, 1, 28, 28)).shape
    torch.Size([2, 10])
    >>> model.hparams.activation
    'torch.nn.GELU'
    """

    def __init__(
        self,
        backbone: BackboneFactory | str = "resnet20",
        num_classes: int = 10,
        image_shape: tuple[int, ...] = (3, 32, 32),
        activation: ActivationFactory | None = nn.ReLU,
        optimizer: OptimizerFactory | None = None,
        lr_scheduler: SchedulerFactory | None = None,
        *,
        lr_interval: Literal["epoch", "step"] = "epoch",
        label_smoothing: float = 0.0,
        l1: float = 0.0,
        l2: float = 0.0,
        no_decay_on_1d: bool = False,
        channels_last: bool = False,
        compile: bool = False,
        ema_decay: float | None = None,
    ) -> None:
        super().__init__()
        _check(num_classes, image_shape, lr_interval, label_smoothing, l1, l2, ema_decay)
        network = plain_backbone(backbone)
        given = {
            "backbone": network,
            "activation": _plain_or_none(activation, "activation", nn.Module),
            "optimizer": _plain_or_none(optimizer, "optimizer", Optimizer),
            "lr_scheduler": _plain_or_none(lr_scheduler, "lr_scheduler", LRScheduler),
        }
        self.save_hyperparameters()
        # The command line adds what rebuilds its own form of the arguments; ours are enough for the constructor.
        self.hparams.pop("_instantiator", None)
        self.save_hyperparameters({**given, "image_shape": list(image_shape)})

        self.image_shape = tuple(image_shape)
        self.num_classes = num_classes
        self.label_smoothing, self.l1, self.l2 = label_smoothing, l1, l2
        self.channels_last, self.ema_decay = channels_last, ema_decay
        self.backbone = build_backbone(network, num_classes, self.image_shape, given["activation"])
        if channels_last:
            self.backbone.to(memory_format=torch.channels_last)
        self._train_sums = EpochSums("loss", "accuracy")
        self._eval_sums: dict[str, EpochSums] = {}
        self._average: WeightAverage | None = None
        self._two_pass: TwoPass | None = None
        self._compile_tried = False
        for hook in _BATCH_HOOKS:
            if getattr(type(self), hook) is getattr(LightningModule, hook):
                setattr(self, hook, None)

    def __setattr__(self, name: str, value: Any) -> None:
        """Set an attribute, the one that Lightning sets twice around each hook without nn.Module's search."""
        if name == "_current_fx_name":  # some thirty times a step, a tenth of the step of a small network
            object.__setattr__(self, name, value)
        else:
            super().__setattr__(name, value)

    def forward(self, images: Tensor) -> Tensor:
        """Return the logits `[N, K]` of images `[N, *image_shape]`.

        Raises:
            ValueError: If the images have another shape.
        """
        if images.shape[1:] != self.image_shape:
            raise ValueError(
                f"images must have shape [N, {', '.join(map(str, self.image_shape))}], found {list(images.shape)}: "
                "give the data's shape as image_shape"
            )
        if self.channels_last and images.ndim == 4:
            images = images.contiguous(memory_format=torch.channels_last)
        return self.backbone(images)

    def training_step(self, batch: Batch, batch_idx: int) -> dict[str, Tensor]:
        """Return the loss; keep the sums of loss and of correct predictions for the epoch's end."""
        images, labels = batch
        logits = _at_least_float32(self(images))
        loss = self._cross_entropy(logits, labels, label_smoothing=self.label_smoothing)
        if self.l1 or self.l2:
            loss = loss + penalty(self.backbone, self.l1, self.l2)
        if self._two_pass is None or self._two_pass.first(batch, batch_idx, loss):
            count = len(labels)
            self._train_sums.add(count, loss.detach() * count, (logits.argmax(1) == labels).sum())
        return {"loss": loss}

    # Lightning looks at the signature for every batch, and inspect would put it together anew each time.
    training_step.__signature__ = inspect.signature(training_step)  # type: ignore[attr-defined]  # mypy knows no attributes of functions

    def optimizer_step(
        self, epoch: int, batch_idx: int, optimizer: Any, optimizer_closure: Callable[[], Any] | None = None
    ) -> None:
        """Take a step; SAM's and LBFGS's evaluate the loss again without leaving traces."""
        if self._two_pass is None or optimizer_closure is None:
            super().optimizer_step(epoch, batch_idx, optimizer, optimizer_closure)
        else:
            self._two_pass.step(self, optimizer, optimizer_closure)

    def on_train_epoch_end(self) -> None:
        """Log the epoch's means."""
        self._log_means("train", self._train_sums)

    def validation_step(self, batch: Batch, batch_idx: int, dataloader_idx: int = 0) -> dict[str, Tensor]:
        """Evaluate a batch of the validation loader (0) or of a watched test loader (1)."""
        return self._evaluate(batch, ("val", "test"), dataloader_idx)

    def test_step(self, batch: Batch, batch_idx: int, dataloader_idx: int = 0) -> dict[str, Tensor]:
        """Evaluate a batch of the test loader."""
        return self._evaluate(batch, ("test",), dataloader_idx)

    def predict_step(self, batch: Batch | Tensor, batch_idx: int, dataloader_idx: int = 0) -> dict[str, Tensor]:
        """Return the class probabilities, the predicted class and, if the batch has labels, the label."""
        images, *labels = (batch,) if isinstance(batch, Tensor) else batch
        probabilities = _at_least_float32(self(images)).softmax(1)
        predicted = {"probabilities": probabilities, "prediction": probabilities.argmax(1)}
        return {**predicted, "label": labels[0]} if labels else predicted

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
        make = self._factory("optimizer", Optimizer)
        optimizer = build_optimizer(make or house_optimizer, self, self.hparams["no_decay_on_1d"])
        self._two_pass = TwoPass() if evaluates_repeatedly(optimizer) else None
        make_scheduler = self._factory("lr_scheduler", LRScheduler)
        if make_scheduler is None:
            if make is not None:
                return optimizer
            scheduler: LRScheduler = house_scheduler(optimizer, lambda: self.trainer.estimated_stepping_batches)
            return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}
        scheduler = make_scheduler(optimizer)
        config: dict[str, Any] = {"scheduler": scheduler, "interval": self.hparams["lr_interval"]}
        if isinstance(scheduler, ReduceLROnPlateau):
            config["monitor"] = getattr(scheduler, "monitor", "val/nll")
        return {"optimizer": optimizer, "lr_scheduler": config}  # type: ignore[return-value]  # its type knows no ReduceLROnPlateau

    def configure_callbacks(self) -> list[Callback]:
        """Add the average of the weights."""
        if self.ema_decay is None:
            return []
        self._average = WeightAverage(self.ema_decay, self.trainer.strategy.root_device)
        return [self._average]

    def setup(self, stage: str) -> None:
        """Forget an earlier training's sums; compile."""
        self._train_sums.reset()
        if self.hparams["compile"] and not self._compile_tried:
            self._compile_tried = True
            compile_in_place(self.backbone, self.trainer.strategy.root_device)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Save the sums of the epoch so far, over all processes."""
        checkpoint["epoch_sums"] = self._reduced(self._train_sums).cpu()
        if self._average is not None and "current_model_state" not in checkpoint:
            self._average.replace_weights(checkpoint)  # Lightning does not ask it when it saves the weights alone

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Go on with the saved sums, which one process takes."""
        resuming = self._trainer is not None and self.trainer.state.fn == TrainerFn.FITTING
        if resuming and "epoch_sums" in checkpoint and self.trainer.is_global_zero:
            self._train_sums.load(checkpoint["epoch_sums"].to(self.trainer.strategy.root_device))

    def _evaluate(self, batch: Batch, stages: tuple[str, ...], dataloader_idx: int) -> dict[str, Tensor]:
        if dataloader_idx >= len(stages):
            raise ValueError(f"expected at most {len(stages)} loaders ({', '.join(stages)}), found another one")
        images, labels = batch
        logits = _at_least_float32(self(images))
        values = [self._cross_entropy(logits, labels, reduction="sum"), (logits.argmax(1) == labels).sum()]
        names = ["nll", "accuracy"]
        if self.num_classes > 5:
            values.append((logits.topk(5).indices == labels[:, None]).sum())
            names.append("top5_accuracy")
        self._eval_sums.setdefault(stages[dataloader_idx], EpochSums(*names)).add(len(labels), *values)
        return {"logits": logits, "labels": labels}

    def _cross_entropy(self, logits: Tensor, labels: Tensor, **options: Any) -> Tensor:
        try:
            return F.cross_entropy(logits, labels, **options)
        except IndexError:  # the CPU's own check, which costs nothing here
            raise ValueError(
                f"labels must be below {logits.shape[1]}, the number of logits, found labels from {int(labels.min())} "
                f"to {int(labels.max())}: set num_classes (now {self.num_classes}) to the data's"
            ) from None

    def _log_means(self, stage: str, sums: EpochSums) -> None:
        for name, mean in sums.means(self._reduced(sums)).items():
            # batch_size=1: the value is a mean already, and Lightning need not look for a size in the batch.
            self.log(f"{stage}/{name}", mean, prog_bar=name == "accuracy", batch_size=1)
        sums.reset()

    def _reduced(self, sums: EpochSums) -> Tensor:
        vector = sums.vector(self.device)
        return vector if self._trainer is None else self.trainer.strategy.reduce(vector, reduce_op="sum")

    def _factory(self, name: str, product: type) -> Callable[..., Any] | None:
        spec = self.hparams[name]
        return None if spec is None else factory(spec, name, product)


def _plain_or_none(value: Any, where: str, product: type) -> Plain | None:
    return None if value is None else plain(value, where, product)


def _at_least_float32(logits: Tensor) -> Tensor:
    return logits.float() if logits.dtype in (torch.bfloat16, torch.float16) else logits


def _check(
    num_classes: int,
    image_shape: tuple[int, ...],
    lr_interval: str,
    label_smoothing: float,
    l1: float,
    l2: float,
    ema_decay: float | None,
) -> None:
    if num_classes < 2:
        raise ValueError(f"num_classes must be at least 2, found {num_classes}")
    if len(image_shape) not in (1, 3) or any(size < 1 for size in image_shape):
        raise ValueError(f"image_shape must be (C, H, W) or (D,) with positive sizes, found {tuple(image_shape)}")
    if lr_interval not in ("epoch", "step"):
        raise ValueError(f"lr_interval must be 'epoch' or 'step', found {lr_interval!r}")
    if not 0 <= label_smoothing < 1:
        raise ValueError(f"label_smoothing must be in [0, 1), found {label_smoothing}")
    for name, weight in (("l1", l1), ("l2", l2)):
        if not 0 <= weight < float("inf"):
            raise ValueError(f"{name} must be a finite number that is not negative, found {weight}")
    if ema_decay is not None and not 0 < ema_decay < 1:
        raise ValueError(f"ema_decay must be in (0, 1), found {ema_decay}")
