"""What is computed from the outputs of two networks on the same samples. Not for running them."""

from math import comb

import numpy as np
from numpy.typing import NDArray

Outputs = NDArray[np.float32]
"""Softmax probabilities [N, classes]."""


def top1(outputs: Outputs, labels: NDArray[np.int64]) -> float:
    """The percentage of samples whose most likely class is the label."""
    return float(100 * np.mean(outputs.argmax(axis=1) == labels))


def agreement(outputs: Outputs, reference: Outputs) -> float:
    """The percentage of samples whose most likely class is the reference's."""
    return float(100 * np.mean(outputs.argmax(axis=1) == reference.argmax(axis=1)))


def sqnr_logits_db(outputs: Outputs, reference: Outputs) -> float | None:
    """Signal to quantization noise of the centred logits in dB; None where a probability is 0 or tools quantized it.

    log p minus its mean over the classes is the input of the softmax, minus its own mean.
    """
    if (outputs <= 0).any() or (reference <= 0).any() or _levels(outputs) <= 256:
        return None
    return _ratio_db(_centred_logits(reference), _centred_logits(outputs))


def sqnr_probabilities_db(outputs: Outputs, reference: Outputs) -> float:
    """Signal to quantization noise of the softmax probabilities in dB."""
    return _ratio_db(reference.astype(np.float64), outputs.astype(np.float64))


def mcnemar_p(one: NDArray[np.bool_], other: NDArray[np.bool_]) -> float:
    """McNemar's exact two-sided p that two classifiers, right or wrong on the same samples, are equally good.

    Source: McNemar 1947; the exact binomial form on the samples that only one of them has right.
    """
    only_one, only_other = int((one & ~other).sum()), int((other & ~one).sum())
    discordant, fewer = only_one + only_other, min(only_one, only_other)
    as_extreme = sum(comb(discordant, k) for k in range(fewer + 1))
    return min(1.0, 2 * as_extreme / float(2**discordant))


def packed(bits: NDArray[np.bool_]) -> str:
    """One bit a sample, first sample first, as hexadecimal."""
    return np.packbits(bits).tobytes().hex()


def unpacked(text: str, count: int) -> NDArray[np.bool_]:
    """What `packed` packed."""
    return np.unpackbits(np.frombuffer(bytes.fromhex(text), np.uint8))[:count].astype(np.bool_)


def _levels(outputs: Outputs) -> int:
    return len(np.unique(outputs))


def _centred_logits(probabilities: Outputs) -> NDArray[np.float64]:
    logits = np.log(probabilities.astype(np.float64))
    centred: NDArray[np.float64] = logits - logits.mean(axis=1, keepdims=True)
    return centred


def _ratio_db(reference: NDArray[np.float64], other: NDArray[np.float64]) -> float:
    noise = float(((reference - other) ** 2).sum())
    return float(10 * np.log10(float((reference**2).sum()) / noise)) if noise else float("inf")
