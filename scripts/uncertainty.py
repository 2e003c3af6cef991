"""Measure the uncertainty of a trained classifier: conformal sets, refused answers, images of another kind.

    python scripts/uncertainty.py                              # trains the digits first
    python scripts/uncertainty.py --checkpoint runs/.../checkpoints/best.ckpt --outside KMNISTDataModule

Three tables: conformal sets, fitted to the validation split, with their coverage and size on the test split; the area
under the curve of risk over coverage; and scores that tell the test split from images of another kind, `--outside`. The
output folder (the run's `uncertainty/`) gets `results.json` and `uncertainty.png`.
"""

from pathlib import Path
from typing import Any

from _common.cli import at_least, experiment
from _common.console import print_rows
from _common.run import Run


def run(
    checkpoint: Path | None = None,
    outside: str = "photos",
    alpha: float = 0.1,
    k: int = 50,
    output: Path | None = None,
    accelerator: str = "auto",
    seed: int = 0,
    trust: str = "",
) -> dict[str, Any]:
    """Measure a checkpoint, or one that is trained on the digits first; return the contents of results.json.

    Args:
        checkpoint: Checkpoint of a run of train.py.
        outside: Images of another kind: a data module's name (its test split), a folder of images (with a folder train
            in it, its test split), or photos, pieces of scikit-learn's two photographs.
        alpha: Largest share of examples whose label may be outside of its conformal set, in (0, 1).
        k: Which neighbour among the features of the training split the score of features takes.
        output: Output folder; by default the run's uncertainty/.
        accelerator: Device: auto, cpu, gpu or another of Lightning's accelerators.
        seed: Random seed of the randomized sets and of the pieces of photographs.
        trust: Packages, separated by commas, that the checkpoint and its run may name.
    """
    from _common.rebuild import rebuild, train_default
    from _uncertainty.measures import conformal_rows, outlier_rows, selective_rows
    from _uncertainty.outputs import outputs_of, outside_batches
    from _uncertainty.picture import draw

    at_least(1, k=k)
    checkpoint = checkpoint or train_default()
    out = Run(output or checkpoint.absolute().parent.parent / "uncertainty")
    trained = rebuild(checkpoint, accelerator, trust)
    held, test, train = (outputs_of(trained, split) for split in ("val", "test", "train"))
    others = outputs_of(trained, batches=outside_batches(trained, outside, len(test.labels), seed))
    sets, sizes = conformal_rows(held, test, alpha, seed)
    curve, answers = selective_rows(test)
    scores, kinds = outlier_rows(train, test, others, k)
    title = f"{checkpoint}: {len(test.labels):,} test images"
    columns = {"coverage": "coverage", "size": "mean size", "largest": "largest", "threshold": "threshold"}
    print_rows(f"{title}; sets that hold the label in {1 - alpha:.0%}", sets, "conformal", columns)
    columns = {"aurc": "AURC", "accuracy": "accuracy", "accuracy_90": "at 90% coverage", "accuracy_80": "at 80%"}
    print_rows("the most confident answers", answers, "confidence", columns)
    columns = {"auroc": "AUROC", "fpr95": "FPR at 95%"}
    print_rows(f"test images against {len(others.labels):,} of {outside}", kinds, "score", columns)
    out.folder.mkdir(parents=True, exist_ok=True)
    draw(sizes, curve, scores, outside).savefig(out.folder / "uncertainty.png")
    return out.finish(
        {
            "checkpoint": str(checkpoint),
            "outside": outside,
            "alpha": alpha,
            "k": k,
            "seed": seed,
            "conformal": sets,
            "selective": answers,
            "outliers": kinds,
            "files": {"figure": "uncertainty.png", "results": "results.json"},
        }
    )


main = experiment(run)

if __name__ == "__main__":
    main()
