"""Explain trained models, in general and example by example.

    python scripts/explain.py image --checkpoint runs/.../checkpoints/best.ckpt --index '[0, 7]'
    python scripts/explain.py tabular                  # diabetes and breast cancer, models of every kind
    python scripts/explain.py tabular --csv housing.csv --target medv
    python scripts/explain.py text                     # docstrings, classified by library
    python scripts/explain.py text --corpus FOLDER

Commands: image (the default; without a checkpoint it trains a network on the digits first), tabular, text. `explain.py
COMMAND --help` lists the options of one. Each writes pictures, a web page and `results.json` into the output folder.
"""

from _common.cli import experiment
from _explain.image import image
from _explain.tabular import tabular
from _explain.text import text

main = experiment({"image": image, "tabular": tabular, "text": text}, default="image", description=__doc__)

if __name__ == "__main__":
    main()
