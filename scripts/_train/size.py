"""How large a network is: its parameters, and the operations of a forward pass."""

import pytorch_lightning as pl
import torch
from torch.utils.flop_counter import FlopCounterMode

from _common.errors import one_line, warn

SIZE = ("parameters", "flops")


def size(model: pl.LightningModule) -> dict[str, int]:
    """Return the number of parameters, and that of floating-point operations of a forward pass of one example.

    A multiplication and an addition count as two. Matrix products, convolutions and attention are counted, as PyTorch's
    counter does; normalisation, activations and pooling are not. Where that pass fails, a warning says so, and the
    operations are left out: a training that has ended must not be lost for them.
    """
    found = {"parameters": sum(one.numel() for one in model.parameters())}
    was_training = model.training
    try:
        example = torch.zeros(1, *model.hparams["image_shape"], device=model.device)
        with torch.no_grad(), FlopCounterMode(display=False) as counter:
            model.eval()(example)
        found["flops"] = counter.get_total_flops()
    except Exception as error:  # of somebody's own network
        warn(f"the network's operations are not counted: {one_line(error)}")
    finally:
        model.train(was_training)
    return found
