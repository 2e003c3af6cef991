import torch

from datamodules.pipeline.label_noise import noisy_labels

LABELS = torch.arange(6000) % 5


def test_the_share_is_exact_and_the_other_classes_are_uniform():
    noisy = noisy_labels(LABELS, torch.arange(0, 6000, 2), 0.5, 5, seed=1)
    changed = noisy != LABELS
    assert int(changed.sum()) == 1500
    assert not changed[1::2].any()
    offsets = torch.bincount((noisy - LABELS)[changed] % 5, minlength=5)
    assert offsets[0] == 0
    assert offsets[1:].min() > 375 - 4 * 17  # four standard deviations
    assert offsets[1:].max() < 375 + 4 * 17


def test_a_larger_share_or_another_part_keeps_what_was_wrong():
    some, more = (noisy_labels(LABELS, torch.arange(6000), share, 5, seed=1) for share in (0.2, 0.4))
    wrong = some != LABELS
    assert torch.equal(more[wrong], some[wrong])
    part = torch.arange(3000)
    half = noisy_labels(LABELS, part, 1.0, 5, seed=1)[:3000]
    assert torch.equal(half[wrong[:3000]], some[:3000][wrong[:3000]])
    mixed = noisy_labels(LABELS, part.flip(0), 0.3, 5, seed=1)
    assert torch.equal(mixed, noisy_labels(LABELS, part, 0.3, 5, seed=1))


def test_ends_and_seeds():
    everything = torch.arange(6000)
    assert noisy_labels(LABELS, everything, 0.0, 5, seed=1) is LABELS
    assert (noisy_labels(LABELS, everything, 1.0, 5, seed=1) != LABELS).all()
    assert torch.equal(noisy_labels(LABELS % 2, everything, 1.0, 2, seed=1), 1 - LABELS % 2)
    first, second = (noisy_labels(LABELS, everything, 0.4, 5, seed=seed) for seed in (1, 2))
    assert not torch.equal(first, second)
