import importlib.util
from pathlib import Path


def test_the_benchmark_runs() -> None:
    path = Path(__file__).parents[1] / "benchmarks" / "optimizers.py"
    spec = importlib.util.spec_from_file_location("benchmarks_optimizers", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    ratios = module.main(["--networks=[resnet20]", "--rounds=2"])
    assert ratios["resnet20"][module.BASE] == 1.0
    assert {"LAMB", "LAMB, fused", "COCOB", "COCOB, fused", "SAM", "timm Lamb"} <= set(ratios["resnet20"])
