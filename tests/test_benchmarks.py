import importlib.util
from pathlib import Path
from types import ModuleType


def benchmark(name: str) -> ModuleType:
    path = Path(__file__).parents[1] / "benchmarks" / f"{name}.py"
    spec = importlib.util.spec_from_file_location(f"benchmarks_{name}", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_benchmark_of_optimizers_runs() -> None:
    module = benchmark("optimizers")
    ratios = module.main(["--networks=[resnet20]", "--rounds=2"])
    assert ratios["resnet20"][module.BASE] == 1.0
    assert {"LAMB", "LAMB, fused", "COCOB", "COCOB, fused", "SAM", "timm Lamb"} <= set(ratios["resnet20"])


def test_the_benchmark_of_sams_periods_runs() -> None:
    ratios = benchmark("sam_every").main(["--batch=1", "--rounds=2", "--steps=2"])
    assert ratios["SGD"] == ratios["Adam"] == 1.0
    assert {f"SAM({base}, every={k})" for base in ("SGD", "Adam") for k in (1, 2, 5, 10)} <= set(ratios)
