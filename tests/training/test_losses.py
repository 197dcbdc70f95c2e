# Copyright 2026 The MusCALL repository authors. Licensed under the Apache License, Version 2.0.
"""The losses against the paper's code, sums written out by hand, and the properties they promise."""

import math
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file

from modeling_muscall import contrastive_loss as plain_contrastive_loss
from muscall.training.losses import content_weights, contrastive_loss, duplicate_mask, nt_xent_loss, similarity_weights


PARITY = Path(__file__).parents[1] / "parity"


def test_content_aware_loss_of_the_paper():
    tensors = load_file(PARITY / "attention.safetensors")
    similarity = tensors["in.sentence_similarity"].fill_diagonal_(0)
    weights = similarity_weights(similarity.mean(1), reference_batch_size=None)
    logits = tensors["out.logits_per_text"]
    assert abs(contrastive_loss(logits, weights=weights) - tensors["out.loss_weighted_clip"]) < 1e-5
    assert abs(contrastive_loss(logits) - tensors["out.loss_clip"]) < 1e-5
    torch.testing.assert_close(contrastive_loss(logits), plain_contrastive_loss(logits), rtol=1e-6, atol=0)


def test_weights_stay_finite_where_the_paper_code_overflows():
    tensors = load_file(PARITY / "average.safetensors")
    mean_similarity = tensors["in.sentence_similarity"].fill_diagonal_(0).mean(1)
    assert tensors["out.loss_weighted_clip"].isnan() and (mean_similarity / mean_similarity.sum() / 0.01).max() > 88
    assert contrastive_loss(tensors["out.logits_per_text"], weights=similarity_weights(mean_similarity)).isfinite()


def test_content_weights_are_those_of_the_matrix_of_similarities():
    embeds = F.normalize(torch.randn(12, 5, generator=torch.Generator().manual_seed(0)) + 0.7, dim=-1)
    similarity = (embeds @ embeds.t()).fill_diagonal_(0)
    expected = (similarity.mean(1) / similarity.mean(1).sum() / 0.05).exp()
    weights = content_weights(3 * embeds, k=0.05, reference_batch_size=None)
    torch.testing.assert_close(weights / weights.sum(), expected / expected.sum())


@pytest.mark.parametrize(
    ("batch_size", "literal"),
    [(16, 4160), (32, 64.5), (64, 8.0), (256, 1.68), (1024, 1.14), (2048, 1.07), (8192, 1.02)],
)
def test_spread_of_weights_does_not_depend_on_the_batch(batch_size, literal):
    mean_similarity = torch.linspace(0.1, 0.5, batch_size, dtype=torch.float64)  # the table in the docstring

    def spread(**kwargs):
        weights = similarity_weights(mean_similarity, **kwargs)
        return (weights.max() / weights.min()).item()

    assert spread(reference_batch_size=None) == pytest.approx(literal, rel=5e-3)
    assert spread() == pytest.approx(math.exp(0.4 / 0.3 / 2.56), rel=1e-9)
    weights = similarity_weights(mean_similarity.float())
    assert weights.isfinite().all() and (weights > 0).all()


def test_captions_with_nothing_in_common_weigh_the_same():
    assert content_weights(torch.eye(4)).tolist() == [1, 1, 1, 1]
    assert content_weights(torch.tensor([[1.0, 0], [-1, 0]])).tolist() == [1, 1]
    assert content_weights(torch.ones(1, 3)).tolist() == [1]


def test_duplicates_are_no_negatives():
    tracks, captions = torch.tensor([1, 2, 1, 3]), torch.tensor([5, 6, 7, 6])
    duplicates = duplicate_mask(tracks, captions)
    assert duplicates.nonzero().tolist() == [[0, 2], [1, 3], [2, 0], [3, 1]]

    logits = torch.randn(4, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    rows, columns = 0, 0
    for pair, negatives in enumerate(([0, 1, 3], [0, 1, 2], [1, 2, 3], [0, 2, 3])):
        rows -= math.log(logits[pair, pair].exp() / sum(logits[pair, other].exp() for other in negatives)) / 4
        columns -= math.log(logits[pair, pair].exp() / sum(logits[other, pair].exp() for other in negatives)) / 4
    assert contrastive_loss(logits, duplicates).item() == pytest.approx((rows + columns) / 2)

    logits.requires_grad_()
    contrastive_loss(logits, duplicates).backward()
    assert not logits.grad[duplicates].any() and logits.grad[~duplicates].all()


def test_loss_of_pairs_without_negatives_is_zero():
    logits = torch.randn(3, 3, requires_grad=True)
    loss = contrastive_loss(logits, duplicate_mask(torch.arange(3), torch.zeros(3)))
    loss.backward()
    assert loss.item() == 0 and not logits.grad.any()


def test_nt_xent_by_hand():
    generator = torch.Generator().manual_seed(0)
    first, second = (torch.randn(3, 4, generator=generator, dtype=torch.float64) for _ in range(2))
    views = [*first, *second]
    for duplicates, pairs in ((None, []), (torch.zeros(3, 3, dtype=torch.bool), [(0, 2)])):
        for left, right in pairs:
            duplicates[left, right] = duplicates[right, left] = True
        expected = 0
        for this in range(6):
            similarity = {
                other: torch.cosine_similarity(views[this], views[other], dim=0).item() / 0.2
                for other in range(6)
                if other != this and tuple(sorted((this % 3, other % 3))) not in pairs
            }
            total = sum(math.exp(value) for value in similarity.values())
            expected -= math.log(math.exp(similarity[(this + 3) % 6]) / total) / 6
        loss = nt_xent_loss(first.float(), second.float(), 0.2, duplicates)
        assert loss.item() == pytest.approx(expected, rel=1e-5)
