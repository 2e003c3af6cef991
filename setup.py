"""Installation of lightning-blocks."""

from pathlib import Path

from setuptools import setup

PACKAGES = [
    "activations",
    "clustering",
    "clustering.engine",
    "clustering.engine.gpu",
    "clustering.rand",
    "datamodules",
    "datamodules.files",
    "datamodules.pipeline",
    "evaluation",
    "evaluation.calibration",
    "evaluation.calibration.scalers",
    "evaluation.callbacks",
    "evaluation.explanation",
    "evaluation.uncertainty",
    "lightning_modules",
    "lightning_modules.backbones",
    "lightning_modules.callbacks",
    "lightning_modules.runs",
    "optim",
    "optim.reference",
]

# Gradient boosting for explain.py; xgboost without its GPU part is the same package, a fiftieth of the size.
BOOSTING = ["lightgbm>=4.5", "xgboost-cpu>=3.0"]
RAY = ["ray>=2.40"]
EXPORT = ["onnx>=1.18", "onnxscript>=0.5"]
TEST = [
    *BOOSTING,
    *EXPORT,
    *RAY,
    "captum>=0.8",
    "hypothesis>=6.100",
    "ipython>=8.20",
    "mpmath>=1.3",
    "onnxruntime>=1.20",
    "pandas>=2.2",
    "parameterfree>=0.0.1",
    "playwright>=1.50",
    "pytest>=8.2",
    "pytest-timeout>=2.3",
    "pytest-xdist>=3.6",
    "relplot>=1.0",
    "schedulefree>=1.4",
    "setuptools>=77",
]
# The peers that benchmarks measure against.
BENCH = [
    "kornia>=0.8",
    "netcal>=1.3",
    "parameterfree>=0.0.1",
    "pytorch-optimizer>=3.5",
    "spocu>=0.0.1",
    "superkmeans>=0.2",
    "torch-optimizer>=0.3",
]

setup(
    name="lightning-blocks",
    version="0.1.0",
    description="Research blocks on PyTorch Lightning: activations, optimizers, data, a classifier, calibration",
    long_description=Path(__file__).with_name("README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    license_files=["LICENSE"],
    python_requires=">=3.11",
    packages=PACKAGES,
    package_data={name: ["py.typed"] for name in PACKAGES if "." not in name},
    install_requires=[
        "torch>=2.11",
        "torchvision>=0.26",
        "pytorch-lightning>=2.6.6",
        "torchmetrics>=1.9",
        "timm>=1.0.20",
        # faiss-gpu, which also runs without a GPU, has no wheels for other systems.
        'faiss-gpu>=1.15; platform_system == "Linux" and platform_machine == "x86_64"',
        'faiss-cpu>=1.15; platform_system != "Linux" or platform_machine != "x86_64"',
        "scikit-learn>=1.8",
        "threadpoolctl>=3.5",
        "eli5>=0.16",
        "tensorboard>=2.19",
        "jsonargparse[signatures]>=4.53",
        "rich>=13.9",
        "matplotlib>=3.9",
        # The curves of compare.py's report.
        "plotly>=6.0",
        "numpy>=2.0",
        "scipy>=1.13",
        # TensorBoard's HParams and jsonargparse's configuration files.
        "pyyaml>=6.0",
    ],
    extras_require={
        "boosting": BOOSTING,
        "export": EXPORT,
        "ray": RAY,
        "test": TEST,
        "bench": BENCH,
        "docs": ["griffelib>=2.0", "latex2mathml>=3.77", "mkdocs-material>=9.6", "mkdocstrings[python]>=1.0"],
        "dev": [*TEST, "mypy>=1.15", "ruff>=0.12", "types-PyYAML>=6.0"],
    },
    classifiers=[
        "Development Status :: 4 - Beta",
        "Intended Audience :: Science/Research",
        "Programming Language :: Python :: 3.11",
        "Programming Language :: Python :: 3.12",
        "Topic :: Scientific/Engineering :: Artificial Intelligence",
        "Typing :: Typed",
    ],
)
