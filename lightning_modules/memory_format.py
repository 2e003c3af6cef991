"""The memory format of images and kernels: channels-last where that is faster."""

import torch
from pytorch_lightning import LightningModule
from torch import nn


class MemoryFormat(LightningModule):
    """A module whose `backbone` has channels-last kernels, always or while it runs."""

    backbone: nn.Module
    channels_last: bool

    def batch_format(self) -> tuple[torch.dtype, bool]:
        """Return the type of training images that nothing converts further, and whether they are to be channels-last.

        On CUDA data modules make such batches, where the first layer would round float32 images to it.
        """
        dtypes = {"bf16": torch.bfloat16, "16": torch.float16}
        return dtypes.get(str(self.trainer.precision).partition("-")[0], torch.float32), self.channels_last

    def setup(self, stage: str) -> None:
        """Choose the memory format."""
        super().setup(stage)
        if self.hparams["channels_last"] == "auto" and self.trainer.strategy.root_device.type in ("cpu", "cuda"):
            self.channels_last = any(parameter.ndim == 4 for parameter in self.backbone.parameters())
        if self.channels_last:
            self.backbone.to(memory_format=torch.channels_last)

    def teardown(self, stage: str) -> None:
        """Leave the kernels as they were made."""
        super().teardown(stage)
        if self.hparams["channels_last"] == "auto" and self.channels_last:
            self.channels_last = False
            self.backbone.to(memory_format=torch.contiguous_format)
