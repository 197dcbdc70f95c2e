# Copyright 2026 The MusCALL repository authors. Licensed under the Apache License, Version 2.0.
"""Losses over the global batch: for the same embeddings, the same value and gradients for any number of processes."""

import torch
import torch.distributed as dist
import torch.nn.functional as F


# The batch of the paper, whose spread of weights `content_weights` keeps at any batch size.
REFERENCE_BATCH_SIZE = 256


class _GatherWithGradient(torch.autograd.Function):
    """[`gather`] with gradients."""

    @staticmethod
    def forward(ctx, local: torch.Tensor) -> torch.Tensor:
        ctx.batch_size = len(local)
        return gather(local)

    @staticmethod
    def backward(ctx, gradient: torch.Tensor) -> torch.Tensor:
        # Every process computes the whole loss, so this sum is num_processes times its gradient; the average that
        # DistributedDataParallel takes over the parameters' gradients divides by num_processes again.
        gradient = gradient.contiguous()
        dist.all_reduce(gradient)
        return gradient[dist.get_rank() * ctx.batch_size :][: ctx.batch_size]


def gather(local: torch.Tensor) -> torch.Tensor:
    """
    Concatenate the rows of all processes in the order of their ranks, without gradients.

    Args:
        local (`torch.Tensor` of shape `(batch_size, ...)`):
            The rows of this process; every process has as many.

    Returns:
        `torch.Tensor` of shape `(num_processes * batch_size, ...)`.
    """
    if not dist.is_initialized() or dist.get_world_size() == 1:
        return local
    gathered = [torch.empty_like(local) for _ in range(dist.get_world_size())]
    dist.all_gather(gathered, local.contiguous())
    return torch.cat(gathered)


def gather_with_gradient(local: torch.Tensor) -> torch.Tensor:
    """Concatenate the rows of all processes as [`gather`] does, with gradients that flow back to every process."""
    if not dist.is_initialized() or dist.get_world_size() == 1:
        return local
    return _GatherWithGradient.apply(local)


def duplicate_mask(track_ids: torch.Tensor, caption_ids: torch.Tensor) -> torch.Tensor:
    """
    Return which pairs of the global batch are no negatives of each other: those of one track or one caption.

    Args:
        track_ids (`torch.LongTensor` of shape `(batch_size,)`):
            Equal for equal tracks.
        caption_ids (`torch.LongTensor` of shape `(batch_size,)`):
            Equal for equal captions.

    Returns:
        `torch.BoolTensor` of shape `(batch_size, batch_size)`, symmetric, `False` on the diagonal.
    """
    same = (track_ids[:, None] == track_ids) | (caption_ids[:, None] == caption_ids)
    return same.fill_diagonal_(False)


def content_weights(
    caption_embeds: torch.Tensor, k: float = 0.01, reference_batch_size: int | None = REFERENCE_BATCH_SIZE
) -> torch.Tensor:
    r"""
    Compute the weights of the paper's content-aware loss: a pair counts the more, the more its caption resembles the
    others of the batch. With \\(c_{ij}\\) the cosine of captions \\(i \neq j\\) and \\(c_{ii} = 0\\), \\(s_i\\) is the
    mean of \\(c_{ij}\\) over \\(j\\) and \\(w_i = \exp(s_i / \sum_j s_j / k)\\).

    \\(s_i / \sum_j s_j\\) shrinks as one over the batch size, so the paper's k = 0.01 means what it meant at its batch
    of 256 alone. `k` is therefore multiplied by `reference_batch_size / batch_size`. The largest weight over the
    smallest, where the mean similarities lie evenly between 0.1 and 0.5:

    | batch size | 16 | 32 | 64 | 256 | 1,024 | 2,048 | 8,192 |
    | --- | --- | --- | --- | --- | --- | --- | --- |
    | literal (`reference_batch_size=None`) | 4,160 | 64.5 | 8.0 | 1.68 | 1.14 | 1.07 | 1.02 |
    | calibrated | 1.68 | 1.68 | 1.68 | 1.68 | 1.68 | 1.68 | 1.68 |

    Args:
        caption_embeds (`torch.FloatTensor` of shape `(batch_size, dim)`):
            Sentence embeddings of the captions of the global batch, of any length above 0.
        k (`float`, *optional*, defaults to 0.01):
            Temperature of the weights.
        reference_batch_size (`int`, *optional*, defaults to 256):
            Batch size at which `k` is literal; `None` takes `k` as it is at any size.

    Returns:
        `torch.FloatTensor` of shape `(batch_size,)`, without gradient, in float32.
    """
    with torch.no_grad():
        embeds = F.normalize(caption_embeds.float(), dim=-1)
        # The sum over j without the matrix of all pairs; a caption's similarity with itself is 1.
        return similarity_weights((embeds @ embeds.sum(0) - 1) / len(embeds), k, reference_batch_size)


def similarity_weights(
    mean_similarity: torch.Tensor, k: float = 0.01, reference_batch_size: int | None = REFERENCE_BATCH_SIZE
) -> torch.Tensor:
    """Compute [`content_weights`] from the mean similarity \\(s_i\\) of each caption, of shape `(batch_size,)`."""
    if reference_batch_size is not None:
        k = k * reference_batch_size / len(mean_similarity)
    total = mean_similarity.sum()
    share = torch.where(total > 0, mean_similarity / total, 0)  # captions with nothing in common weigh the same
    exponent = share / k
    return (exponent - exponent.max()).exp()  # the loss divides by the sum: a common factor only keeps it finite


def contrastive_loss(
    logits_per_text: torch.Tensor,
    duplicates: torch.Tensor | None = None,
    weights: torch.Tensor | None = None,
) -> torch.Tensor:
    """
    Compute InfoNCE in both directions, without duplicates among the negatives and with a weight for each pair: the
    mean over the directions of `(weights * cross_entropy).sum() / weights.sum()`. Without `duplicates` and `weights`
    it is `modeling_muscall.contrastive_loss`.

    Args:
        logits_per_text (`torch.FloatTensor` of shape `(batch_size, batch_size)`):
            Scaled similarities; text `i` belongs to audio `i`.
        duplicates (`torch.BoolTensor` of shape `(batch_size, batch_size)`, *optional*):
            As [`duplicate_mask`] returns it: left out of the denominators.
        weights (`torch.FloatTensor` of shape `(batch_size,)`, *optional*):
            As [`content_weights`] returns them.
    """
    if duplicates is not None:
        logits_per_text = logits_per_text.masked_fill(duplicates, -torch.inf)
    target = torch.arange(len(logits_per_text), device=logits_per_text.device)
    losses = F.cross_entropy(logits_per_text, target, reduction="none")
    losses = (losses + F.cross_entropy(logits_per_text.t(), target, reduction="none")) / 2
    return losses.mean() if weights is None else (weights * losses).sum() / weights.sum()


def nt_xent_loss(
    first: torch.Tensor, second: torch.Tensor, temperature: float = 0.5, duplicates: torch.Tensor | None = None
) -> torch.Tensor:
    """
    Compute SimCLR's loss between two views of each item: each view must find the other among all views of all items
    (https://arxiv.org/abs/2002.05709, equation 1).

    Args:
        first (`torch.FloatTensor` of shape `(batch_size, dim)`):
            Features of one view of each item, of any length above 0.
        second (`torch.FloatTensor` of shape `(batch_size, dim)`):
            Features of the other view.
        temperature (`float`, *optional*, defaults to 0.5):
            Divides the cosine similarities.
        duplicates (`torch.BoolTensor` of shape `(batch_size, batch_size)`, *optional*):
            Items that are no negatives of each other.
    """
    views = F.normalize(torch.cat([first, second]).float(), dim=-1)
    similarity = views @ views.t() / temperature
    excluded = torch.eye(len(views), dtype=torch.bool, device=views.device)
    if duplicates is not None:
        excluded |= duplicates.repeat(2, 2)
    target = torch.arange(len(views), device=views.device).roll(len(first))
    return F.cross_entropy(similarity.masked_fill(excluded, -torch.inf), target)
