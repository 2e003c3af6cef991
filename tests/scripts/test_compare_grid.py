"""The runs of a comparison's command line, and the mistakes that it reports before any of them starts."""

import functools
import socket
import threading

import pytest

import compare
from _common.cli import join
from _compare.folder import run_folders
from _compare.grid import Axis, make_grid, parse

RECIPE = ["--config", "scripts/recipes/mnist_two_layer.yaml"]


@pytest.fixture(autouse=True)
def _at_the_root(monkeypatch, pytestconfig):
    monkeypatch.chdir(pytestconfig.rootpath)


def test_two_axes_make_a_grid():
    axes = [Axis("model.activation", ("ReLU", "GELU")), Axis("data.batch_size", ("32", "64"))]
    grid = make_grid(axes, ["--model.backbone", "MLP", "--trainer.max_epochs=3"])
    assert [one.name for one in grid] == [
        "ReLU, batch_size=32", "ReLU, batch_size=64", "GELU, batch_size=32", "GELU, batch_size=64"
    ]  # fmt: skip
    last = grid[-1].config
    assert last["model"]["activation"]["class_path"] == "torch.nn.GELU"
    assert last["data"]["init_args"]["batch_size"] == 64
    assert last["data"]["init_args"]["watch_test"] is True
    assert last["trainer"]["max_epochs"] == 3
    assert last["trainer"]["devices"] == 1
    places = run_folders(grid, [0, 1])
    assert len(set(places.values())) == 8
    assert str(places["GELU, batch_size=64", 1]) == "GELU-batch_size=64/seed-1"


def test_a_value_has_options_of_its_own():
    values = (
        "SGD(lr=0.5, momentum=0.9, nesterov=True)",
        "{class_path: SGD, init_args: {lr: 0.25}}",
        "SAM(rho=0.1, base_optimizer=Adam(lr=0.01, betas=(0.8, 0.9)))",
        '{"class_path": "SAM", "init_args": {"base_optimizer": {"class_path": "LAMB"}}}',
    )
    grid = make_grid([Axis("optimizer", values)], [])
    made = [one.config["optimizer"] for one in grid]
    assert made[0]["class_path"] == "torch.optim.SGD"
    given = {name: made[0]["init_args"][name] for name in ("lr", "momentum", "nesterov")}
    assert given == {"lr": 0.5, "momentum": 0.9, "nesterov": True}
    assert made[1]["init_args"]["lr"] == 0.25
    assert made[2]["init_args"]["rho"] == 0.1
    base = made[2]["init_args"]["base_optimizer"]
    assert (base["class_path"], base["init_args"]["lr"], base["init_args"]["betas"]) == (
        "torch.optim.Adam", 0.01, [0.8, 0.9]
    )  # fmt: skip
    assert made[3]["init_args"]["base_optimizer"]["class_path"] == "optim.LAMB"
    assert [one.name for one in grid][1:2] == ["SGD(lr=0.25)"]
    assert set(grid[2].varied) >= {"optimizer.class_path", "optimizer.rho", "optimizer.base_optimizer.lr"}


def test_a_class_starts_from_its_own_defaults_and_not_from_the_recipes():
    sgd, adam = make_grid([Axis("optimizer", ("SGD", "Adam"))], RECIPE)
    assert adam.config["optimizer"]["init_args"]["lr"] == 0.001  # the recipe gives 0.1 to SGD
    assert sgd.config["optimizer"]["init_args"]["lr"] == 0.001
    (shared,) = make_grid([Axis("optimizer", ("Adam",))], [*RECIPE, "--optimizer.lr", "0.02"])
    assert shared.config["optimizer"]["init_args"]["lr"] == 0.02
    (rate, _) = make_grid([Axis("optimizer.lr", ("0.3", "0.4"))], RECIPE)
    assert rate.config["optimizer"]["class_path"] == "torch.optim.SGD"
    assert (rate.name, rate.config["optimizer"]["init_args"]["lr"]) == ("lr=0.3", 0.3)


def test_schedules_are_values_of_an_axis():
    grid = make_grid([Axis("schedule", ("warmup 5%, cosine", "cosine", "null"))], ["--optimizer", "SGD"])
    made = [one.config["lr_scheduler"] for one in grid]
    assert [one and (one["class_path"], one["init_args"]["text"]) for one in made] == [
        ("lightning_modules.Schedule", "warmup 5%, cosine"), ("lightning_modules.Schedule", "cosine"), None
    ]  # fmt: skip
    assert [one.name for one in grid] == ["schedule=warmup 5%, cosine", "cosine", "schedule=null"]
    assert grid[0].varied == ("lr_scheduler.init_args.text",)


def test_the_command_line_is_divided():
    words = "--seeds 5 --axis optimizer --values LAMB SGD(lr=0.1) --data MNISTDataModule --jobs=2 --model.l2 -0.1"
    ours, axes, tunes, theirs = compare.divide(parse(words.split()))
    assert join(ours) == ["--seeds", "5", "--jobs", "2"]
    assert axes == [Axis("optimizer", ("LAMB", "SGD(lr=0.1)"))]
    assert tunes == []
    assert join(theirs) == ["--data", "MNISTDataModule", "--model.l2", "-0.1"]


def test_the_default_is_digits_three_optimizers_two_seeds(monkeypatch):
    called = {}
    whole = compare.compare
    note = functools.wraps(whole)(lambda *args, **options: called.update(args=args, options=options))
    monkeypatch.setattr(compare, "compare", note)
    compare.main([])
    (axis,), options, command, _ = called["args"]
    assert len(make_grid([axis], options)) == 3
    assert called["options"]["seeds"] == 2
    assert options == ["--trainer.max_epochs", "10"]
    assert command == "python scripts/compare.py"
    compare.main(["--axis", "model.activation", "--values", "ReLU", "--data", "MNISTDataModule"])
    assert called["args"][1] == ["--data", "MNISTDataModule"]


AXIS = ["--axis", "optimizer", "--values", "SGD", "Adam"]
MISTAKES = {
    "unknown axis": (["--axis", "optimiser", "--values", "SGD"], "SGD: unrecognized arguments: --optimiser"),
    "unknown value": (["--axis", "optimizer", "--values", "SGD", "Adamm"], "Adamm: unknown optimizer 'Adamm'"),
    "unknown value in a dictionary": (
        ["--axis", "optimizer", "--values", "{class_path: Adamm}"], "unknown optimizer 'Adamm': the nearest are Adam"
    ),
    "unknown option of a value": (["--axis", "optimizer", "--values", "SGD(lrr=1)"], "no option 'lrr'"),
    "bad option of a value": (["--axis", "optimizer", "--values", "SGD(lr=x)"], "--optimizer.lr: expected float"),
    "only building finds it": (["--axis", "optimizer", "--values", "SGD", "Adam(lr=-1)"], "Invalid learning rate: -1"),
    "no call": (["--axis", "optimizer", "--values", "SGD(0.1)"], "every option with its name"),
    "no value": (["--axis", "optimizer"], "--axis optimizer needs its --values"),
    "no axis": (["--values", "SGD"], "--values SGD needs values, and an --axis before it"),
    "two axes": (["--axis", "optimizer", "--axis", "data", "--values", "SGD"], "--axis optimizer needs one option"),
    "unknown option": ([*AXIS, "--trainer.maxepochs", "3"], "unrecognized arguments: --trainer.maxepochs"),
    "typing error": ([*AXIS, "--seed_s", "3"], "unrecognized arguments: --seed_s"),
    "a word": (["fit", *AXIS], "unexpected word 'fit'"),
    "the seed": ([*AXIS, "--seed_everything", "3"], "--seed_everything cannot be given here: --seeds and --seed"),
    "the folder": (["--axis", "trainer.default_root_dir", "--values", "a"], "--output names the folder of the runs"),
    "twice": ([*AXIS, "--optimizer", "SGD"], "--optimizer is given twice"),
    "the same value twice": (["--axis", "optimizer", "--values", "SGD", "SGD"], "two combinations are both SGD"),
    "baseline": ([*AXIS, "--baseline", "LAMB"], "--baseline 'LAMB' is none of the combinations: SGD; Adam"),
    "seeds": ([*AXIS, "--seeds", "0"], "--seeds must be at least 1, found 0"),
    "type of seeds": ([*AXIS, "--seeds", "many"], "seeds"),
    "devices": ([*AXIS, "--trainer.devices", "2"], "a run of a comparison has one device, found --trainer.devices 2"),
    "nothing tested": ([*AXIS, "--trainer.fast_dev_run", "true"], "--trainer.fast_dev_run tests nothing"),
    "an axis of seeds": (["--axis", "seed", "--values", "1"], "--seed cannot be given here: --seeds N makes N runs"),
    "own option as axis": (["--axis", "jobs", "--values", "1", "2"], "found jobs, which is one of compare.py"),
    "own option twice": (["--seeds", "2", "--seeds=3"], "--seeds is given twice: give it once"),
    "option twice": ([*AXIS, "--data.seed", "1", "--data.seed", "2"], "--data.seed is given twice: give it once"),
}  # fmt: skip


@pytest.mark.parametrize(("arguments", "message"), MISTAKES.values(), ids=MISTAKES)
def test_a_mistake_ends_in_one_line_before_any_run(capsys, tmp_path, arguments, message):
    output = tmp_path / "comparison"
    with pytest.raises(SystemExit) as stop:
        compare.main([*arguments, "--output", str(output)])
    assert stop.value.code == 1
    lines = capsys.readouterr().err.splitlines()
    assert [line for line in lines if line.startswith("error: ")] == lines[-1:]
    assert message in lines[-1]
    assert not output.exists()


def test_a_missing_ray_is_reported(capsys, tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "ray", None)
    with pytest.raises(SystemExit):
        compare.main([*AXIS, "--engine", "ray", "--output", str(tmp_path / "comparison")])
    assert "--engine ray needs the package ray: pip install" in capsys.readouterr().err


def test_a_ray_cluster_that_does_not_answer_is_reported(capsys, tmp_path):
    pytest.importorskip("ray")
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # and does not listen
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        with pytest.raises(SystemExit):
            compare.main([*AXIS, "--engine", "ray", "--ray_address", address, "--output", str(tmp_path / "comparison")])
    assert f"no Ray cluster at {address}: " in capsys.readouterr().err
    assert not (tmp_path / "comparison").exists()


@pytest.mark.parametrize("answer", [b"HTTP/1.1 400 Bad Request\r\n\r\n", b""])
def test_an_address_where_something_else_answers_is_no_cluster(answer):
    from _compare.ray import check_answers

    with socket.create_server(("127.0.0.1", 0)) as server:

        def reply():
            connection, _ = server.accept()
            with connection:
                connection.recv(100)
                connection.sendall(answer)

        thread = threading.Thread(target=reply)
        thread.start()
        address = f"127.0.0.1:{server.getsockname()[1]}"
        with pytest.raises(ValueError, match=f"^no Ray cluster at {address}: [^\n]+$"):
            check_answers(address)
        thread.join()
