import importlib.util
import json
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


def test_the_benchmark_of_augmentations_writes_its_table(tmp_path: Path) -> None:
    path = tmp_path / "record.json"
    words = ["--tables=[augmentations]", "--rounds=1", "--batch_size=4", "--batches=2", f"--results={path}"]
    benchmark("input_pipeline").main(words)
    record = json.loads(path.read_text())
    (table,) = record["tables"]
    assert table["columns"] == ["augmentation", "ours, images/s", "torchvision v2, images/s", "ratio", "quartiles"]
    assert {row[0] for row in table["rows"]} >= {"none", "random_resized_crop", "TrivialAugment", "mixup", "cutmix"}
    assert record["notes"][0].startswith("load of the machine before")


def test_the_benchmark_of_a_folder_writes_its_table(tmp_path: Path) -> None:
    path = tmp_path / "record.json"
    sizes = ["--rounds=1", "--images=4", "--width=300", "--height=240", "--workers=0"]
    benchmark("input_folder").main([*sizes, f"--results={path}"])
    (table,) = json.loads(path.read_text())["tables"]
    assert [row[0] for row in table["rows"]] == ["torchvision, ImageFolder", "ours", "ours, reduced_decoding"]
    assert table["rows"][0][2] == "1.00"
