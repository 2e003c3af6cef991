"""`--schedule TEXT`, a recipe's `schedule` and what they become."""

import pytest

from _common.cli import Option
from _common.names import read_config
from _train.words import complete, with_scheduler

MADE = {"class_path": "lightning_modules.Schedule", "init_args": {"text": "warmup 5%, cosine"}}


@pytest.mark.parametrize("option", ["schedule", "lr_scheduler"])
def test_a_text_becomes_a_scheduler_without_options_of_another(option):
    assert with_scheduler([Option("seed", ("1",)), Option(option, ("cosine",))]) == [
        Option("seed", ("1",)),
        Option("lr_scheduler", ("null",)),
        Option("lr_scheduler", ("Schedule",)),
        Option("lr_scheduler.text", ("cosine",)),
    ]
    assert "lightning_modules.Schedule" in complete("fit", [f"--{option}", "cosine"])


def test_no_schedule_and_other_schedulers():
    assert with_scheduler([Option("schedule", ("null",))]) == [Option("lr_scheduler", ("null",))]
    given = [Option("lr_scheduler", ("StepLR",)), Option("lr_scheduler.step_size", ("3",))]
    assert with_scheduler(given) == given


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ([Option("schedule", ("warmup", "5%,", "cosine"))], "in quotation marks, found 3 words"),
        ([Option("schedule")], "in quotation marks, found 0 words"),
        ([Option("schedule", ("cosin",))], "cannot read 'cosin'"),
        ([Option("schedule", ("cosine",)), Option("lr_scheduler", ("StepLR",))], "exclude each other"),
        ([Option("schedule", ("cosine",)), Option("lr_scheduler.T_max", ("3",))], "exclude each other"),
    ],
)
def test_mistakes_are_one_line(options, message):
    with pytest.raises(ValueError, match=message) as caught:
        with_scheduler(options)
    assert "\n" not in str(caught.value)


def test_a_recipe_has_a_schedule():
    for key in ("schedule", "lr_scheduler"):
        assert read_config(f"{key}: warmup 5%, cosine\n")["lr_scheduler"] == MADE
    assert read_config("schedule: null\nlr_scheduler: StepLR\n") == {"lr_scheduler": "torch.optim.lr_scheduler.StepLR"}
    with pytest.raises(ValueError, match="exclude each other"):
        read_config("schedule: cosine\nlr_scheduler: StepLR\n")
