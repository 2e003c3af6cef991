"""Further options of `train.py`: how it computes, and what it ends with."""

from typing import Literal

from jsonargparse import ArgumentParser


def add_options(parser: ArgumentParser) -> None:
    """Add the options."""
    parser.add_argument(
        "--threads", type=int | None,
        help="Threads on a CPU; by default OMP_NUM_THREADS, or one a CPU that is available.",
    )  # fmt: skip
    parser.add_argument(
        "--warm_up", type=int, default=0,
        help="Steps of a training that is not kept, before the one that train_seconds of results.json measures.",
    )  # fmt: skip
    tested = "Draw the loss at rising learning rates and print a suggestion; nothing is trained."
    parser.add_argument("--lr_range_test", type=bool, default=False, help=tested)
    parser.add_argument(
        "--figures_every", type=int | None,
        help="Epochs between the figures in TensorBoard; by default about 20 sets of them in a training.",
    )  # fmt: skip
    parser.add_argument("--log_graph", type=bool, default=False, help="Write the network's graph to TensorBoard.")
    evaluated = "Split that a training ends with; val leaves the test split unread."
    parser.add_argument("--evaluate_on", type=Literal["test", "val"], default="test", help=evaluated)
    kept = "Write the predictions for the test split to predictions.npz."
    parser.add_argument("--keep_predictions", type=bool, default=False, help=kept)
    parser.add_argument(
        "--sharpness", type=int, default=0, metavar="EXAMPLES",
        help="Also measure the largest eigenvalue of the Hessian of the loss on this many training examples.",
    )  # fmt: skip
