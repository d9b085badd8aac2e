"""Claims about depth: initialisation, activations, batch normalisation, skip connections."""

import math
from typing import Any

import numpy as np

from ..nn import CrossEntropyLoss
from ..ops.activations import relu, sigmoid
from ..ops.elementwise import tanh
from .claims import (
    Numbers,
    Verdict,
    Word,
    about,
    claim,
    deltas,
    digits,
    exceeds,
    learns,
    percent,
    rates,
    seeds,
    stack,
    train,
    weight_gradients,
)
from .propagation import backward_factor

# σ_w² of weights N(0, 0.01²) in layers of 64 inputs: small numbers, as one draws without thinking.
SMALL = 64 * 0.01**2
# A factor a layer from .9 to 1.1 keeps its size, near enough: what `vanishing` calls flat.
FLAT = 0.1


def _judge_initialisation(numbers: Numbers) -> Verdict:
    proper = {"ReLU": "ReLU + He", "tanh": "tanh + Xavier", "sigmoid": "sigmoid + Xavier"}
    after = {name: numbers[f"accuracy %: {net}"] for name, net in proper.items()}
    helped = [
        name
        for name, accuracies in after.items()
        if learns(accuracies) and exceeds(accuracies, numbers[f"accuracy %: {name} + N(0, 0.01²)"])
    ]
    reached = ", ".join(f"{net} {percent(after[name])}" for name, net in proper.items())
    naive = [float(np.median(numbers[f"accuracy %: {name} + N(0, 0.01²)"])) for name in proper]
    reason = f"{reached}; with N(0, 0.01²) none above {percent([max(naive)])}."
    if len(helped) == len(proper):
        return Verdict("supported", reason)
    if not helped:
        return Verdict("refuted", reason)
    # Xavier's and He's rules were derived for activations of slope 1 at 0, and for ReLU.
    word: Word = "supported" if {"ReLU", "tanh"} <= set(helped) else "depends"
    return Verdict(word, reason, f"the activation: it is enough for {' and '.join(helped)} only")


@claim(
    "initialisation",
    statement="Proper initialisation (Xavier, He) eases vanishing gradients.",
    chinese="合适的权重初始化（Xavier、He）可以缓解梯度消失。",
    setting="Depth 6, width 64, digits, SGD with the best of the rates; δ is measured before "
    "training. Each activation with its initialisation, and with weights from N(0, 0.01²).",
    earlier="ReLU + He 94.5 %, tanh + Xavier 94.5 %, sigmoid + Xavier 11 %",
    judge=_judge_initialisation,
)
def _initialisation(quick: bool) -> Numbers:
    numbers: Numbers = {}
    for words, activation, init in (
        ("ReLU + He", "relu", "he"),
        ("tanh + Xavier", "tanh", "xavier"),
        ("sigmoid + Xavier", "sigmoid", "xavier"),
        ("ReLU + N(0, 0.01²)", "relu", None),
        ("tanh + N(0, 0.01²)", "tanh", None),
        ("sigmoid + N(0, 0.01²)", "sigmoid", None),
    ):
        options: dict[str, Any] = {"activation": activation}
        options |= {"init": init} if init else {"weight_variance": SMALL}
        trained = [train(s, 300 if quick else 1000, rates(quick), **options) for s in seeds(quick)]
        numbers[f"accuracy %: {words}"] = [t.accuracy for t in trained]
        sizes = [deltas(stack(split, **options), split) for split in map(digits, seeds(quick))]
        numbers[f"δ of the first layer / of the last: {words}"] = [d[0] / d[-1] for d in sizes]
    return numbers


def _judge_depth(numbers: Numbers) -> Verdict:
    depths = [int(name.split()[-1]) for name in numbers if name.startswith("accuracy")]
    low, high = min(depths), max(depths)
    accuracies = [numbers[f"accuracy %: depth {d}"] for d in depths]
    first, last = (numbers[f"‖∂L/∂W₁‖ at the start: depth {d}"] for d in (low, high))
    # A half, for layers of other shapes have other gradients anyway.
    shrinks, grows = exceeds(first, last, times=2), exceeds(last, first, times=2)
    best = accuracies[depths.index(low)], accuracies[depths.index(high)]
    reason = (
        f"From depth {low} to {high} ‖∂L/∂W₁‖ goes from {about(first)} to {about(last)}, and the "
        f"accuracy from {percent(best[0])} to {percent(best[1])}."
    )
    if shrinks and not learns(best[1]):
        return Verdict("refuted", reason)
    if grows and learns(best[1]):
        return Verdict("supported", reason)
    return Verdict("depends", reason, "the depth: the gradient and the accuracy tell two stories")


@claim(
    "depth",
    statement="More layers cure vanishing gradients.",
    chinese="增加深度神经网络的层数可以解决梯度消失问题。",
    setting="Sigmoid, Xavier, width 64, digits, SGD with the best of the rates.",
    earlier="depth 1/2/3/4/6/8: 94/94/93/87/11/11 %, ‖∂L/∂W₁‖ from .53 to 2e-5",
    judge=_judge_depth,
)
def _depth(quick: bool) -> Numbers:
    numbers: Numbers = {}
    for depth in (1, 3, 6) if quick else (1, 2, 3, 4, 6, 8):
        trained = [
            train(s, 300 if quick else 1000, rates(quick), depth=depth) for s in seeds(quick)
        ]
        numbers[f"accuracy %: depth {depth}"] = [t.accuracy for t in trained]
        numbers[f"‖∂L/∂W₁‖ at the start: depth {depth}"] = [
            weight_gradients(stack(split, depth), split)[0] for split in map(digits, seeds(quick))
        ]
    return numbers


def _judge_relu(numbers: Numbers) -> Verdict:
    factors = {
        int(k.split()[-1]): v for k, v in numbers.items() if k.startswith("factor a layer: R")
    }
    kept = [not exceeds(1 - FLAT, f) and not exceeds(f, 1 + FLAT) for f in factors.values()]
    exploding = [exceeds(f, 1 + FLAT) for f in factors.values()]
    bounded = numbers["factor a layer: tanh (slope at most 1), σ_w² = 4"]
    reason = (
        f"ReLU: δ × {', '.join(map(about, factors.values()))} a layer for n·Var(w) = "
        f"{', '.join(map(str, factors))}; tanh, of slope at most 1 too, × {about(bounded)}."
    )
    if all(kept) or all(exploding):
        return Verdict("supported", reason)
    if any(kept) or any(exploding):
        return Verdict("depends", reason, "the weights: the factor is √(n·Var(w)/2)")
    return Verdict("refuted", reason)


@claim(
    "relu",
    statement="ReLU avoids vanishing and exploding gradients; or: its derivative of 1 makes them "
    "explode.",
    chinese="ReLU 激活函数能避免梯度消失和梯度爆炸；也有人说，它的导数为 1，因此会导致梯度爆炸。",
    setting="Random nets of depth 30 without training, biases 0 (tanh: σ_b² = .05): what a layer "
    "does to δ.",
    earlier="ReLU .707, 1, 1.414 for n·Var(w) = 1, 2, 4; tanh 1.153",
    judge=_judge_relu,
)
def _relu(quick: bool) -> Numbers:
    width = 128 if quick else 300
    numbers = {
        f"factor a layer: ReLU, n·Var(w) = {variance}": [
            backward_factor(relu, variance, width=width, depth=30, seed=s) for s in seeds(quick)
        ]
        for variance in (1, 2, 4)
    }
    numbers["factor a layer: tanh (slope at most 1), σ_w² = 4"] = [
        backward_factor(tanh, 4, 0.05, width=width, depth=30, seed=s) for s in seeds(quick)
    ]
    return numbers


def _judge_quarter(numbers: Numbers) -> Verdict:
    factors = {int(name.split()[-1]): values for name, values in numbers.items()}
    quarter = [
        v
        for v, f in factors.items()
        if not exceeds(f, 0.25 * (1 + FLAT)) and not exceeds(0.25 * (1 - FLAT), f)
    ]
    reason = (
        f"δ × {', '.join(map(about, factors.values()))} a layer for σ_w² = "
        f"{', '.join(map(str, factors))}."
    )
    if len(quarter) == len(factors):
        return Verdict("supported", reason)
    if quarter:
        return Verdict("depends", reason, "the weights: ¼ is the bound of σ′ alone")
    return Verdict("refuted", reason)


@claim(
    "quarter",
    statement="Every sigmoid layer costs the gradient a factor ¼.",
    chinese="每经过一层 sigmoid，梯度就缩小为原来的四分之一。",
    setting="Random nets of depth 30 without training, weights N(0, σ_w²/n), biases 0: what a "
    "layer does to δ.",
    earlier="σ_w² = 1: .235; σ_w² = 16: .62",
    judge=_judge_quarter,
)
def _quarter(quick: bool) -> Numbers:
    width = 128 if quick else 300
    return {
        f"factor a layer: σ_w² = {variance}": [
            backward_factor(sigmoid, variance, width=width, depth=30, seed=s) for s in seeds(quick)
        ]
        for variance in (1, 4, 16)
    }


def _judge_hamming(numbers: Numbers) -> Verdict:
    added = numbers["loss less plain cross-entropy, relative"]
    pulled = numbers["gradient less that of plain cross-entropy, relative"]
    variance = numbers["n·Var(w)"]
    # Two orders of summation in float64 differ by some 1e-15; a penalty would be far above this.
    if exceeds(added, 1e-10) or exceeds(pulled, 1e-10):
        return Verdict("supported", f"The loss is {about(added)} above plain cross-entropy.")
    return Verdict(
        "refuted",
        f"It sets n·Var(w), here to {about(variance)}. Loss and gradient agree with plain "
        f"cross-entropy to {about([max(added + pulled)])}: no term was added.",
    )


@claim(
    "he-hamming",
    statement="He initialisation is a penalty on the Hamming distance.",
    chinese="He 初始化是一种基于汉明距离的惩罚。",
    setting="Depth 6, width 64, ReLU, He, float64: loss and gradient on the digits beside those of "
    "cross-entropy written by hand in NumPy, which knows of no penalty.",
    earlier="Var(w) = 2/n; no term in the loss",
    judge=_judge_hamming,
)
def _hamming(quick: bool) -> Numbers:
    numbers: Numbers = {
        "n·Var(w)": [],
        "loss less plain cross-entropy, relative": [],
        "gradient less that of plain cross-entropy, relative": [],
    }
    for split in map(digits, seeds(quick)):
        model = stack(split, activation="relu", init="he", dtype="float64")
        loss = CrossEntropyLoss()(model(split.x), split.labels)
        loss.backward(retain="leaves")
        weights = [block.linear.weight.data for block in model.layers]
        plain, gradients = _by_hand(weights, split.x, split.labels)
        found = [block.linear.weight.grad for block in model.layers]
        difference = math.sqrt(
            sum(np.sum((f - g) ** 2) for f, g in zip(found, gradients, strict=True))
        )
        size = math.sqrt(sum(np.sum(g**2) for g in gradients))
        results = (
            64 * float(np.var(weights[1])),
            abs(loss.item() - plain) / plain,
            difference / size,
        )
        for values, result in zip(numbers.values(), results, strict=True):
            values.append(result)
    return numbers


def _by_hand(
    weights: list[np.ndarray], x: np.ndarray, labels: np.ndarray
) -> tuple[float, list[np.ndarray]]:
    """Cross-entropy of a ReLU net without biases, and its gradients, with nothing but NumPy."""
    hs = [x.astype(float)]
    for w in weights[:-1]:
        hs.append(np.maximum(hs[-1] @ w.T, 0))
    z = hs[-1] @ weights[-1].T
    z -= z.max(axis=1, keepdims=True)
    log_p = z - np.log(np.exp(z).sum(axis=1, keepdims=True))
    n = len(labels)
    loss = -float(log_p[np.arange(n), labels].mean())
    delta = np.exp(log_p)
    delta[np.arange(n), labels] -= 1
    delta /= n
    gradients = []
    for w, h in zip(reversed(weights), reversed(hs), strict=True):
        gradients.append(delta.T @ h)
        delta = delta @ w * (h > 0)
    return loss, gradients[::-1]


def _judge_batch_norm(numbers: Numbers) -> Verdict:
    shallow, shallow_bn = (numbers[f"accuracy %: 3 layers, {n} norm"] for n in ("no", "batch"))
    deep_bn = numbers["accuracy %: 57 layers, batch norm"]
    skips = numbers["accuracy %: 57 layers, batch norm and skips"]
    factor = numbers["factor a layer at the start: 57 layers, batch norm"]
    speeds = exceeds(shallow_bn, shallow)
    # Beside skips, which show what could have been learnt in the same steps.
    fails = not learns(deep_bn) and exceeds(skips, deep_bn)
    reason = (
        f"3 sigmoid layers: {percent(shallow)} without, {percent(shallow_bn)} with it. 57 ReLU "
        f"layers: {percent(deep_bn)} with it, {percent(skips)} with skips too; δ × {about(factor)} "
        f"a layer."
    )
    if fails and not speeds:
        return Verdict("refuted", reason)
    if not fails and speeds and learns(deep_bn):
        return Verdict("supported", reason)
    explodes = (
        ": it makes gradients explode in deep plain ones" if exceeds(factor, 1 + FLAT) else ""
    )
    return Verdict("depends", reason, f"the net{explodes}")


@claim(
    "batch-norm",
    statement="Batch normalisation cures deep networks.",
    chinese="批量归一化可以解决深度神经网络难以训练的问题。",
    setting="Digits, width 64, best of the rates: 3 sigmoid layers (Xavier), 57 ReLU layers (He).",
    earlier="3 layers: 89 against 13–28 %; 56 blocks: loss 2.29, with skips .14; δ × 1.21 a layer",
    judge=_judge_batch_norm,
)
def _batch_norm(quick: bool) -> Numbers:
    numbers: Numbers = {}
    for norm, name in (("none", "no"), ("batch", "batch")):
        numbers[f"accuracy %: 3 layers, {name} norm"] = [
            train(s, 100, (0.1,) if quick else (0.01, 0.1), depth=3, norm=norm).accuracy
            for s in seeds(quick)
        ]
    deep: dict[str, Any] = {"depth": 57, "activation": "relu", "init": "he", "norm": "batch"}
    steps = 50 if quick else 200
    for residual, name in ((False, "batch norm"), (True, "batch norm and skips")):
        numbers[f"accuracy %: 57 layers, {name}"] = [
            train(s, steps, (0.01,) if quick else (0.01, 0.1), residual=residual, **deep).accuracy
            for s in seeds(quick)
        ]
    sizes = [deltas(stack(split, **deep), split) for split in map(digits, seeds(quick))]
    numbers["factor a layer at the start: 57 layers, batch norm"] = [
        (size[0] / size[-2]) ** (1 / 55) for size in sizes
    ]
    return numbers


def _judge_skips(numbers: Numbers) -> Verdict:
    shallow, deep = (numbers[f"accuracy %: {d} layers, skips alone"] for d in (4, 20))
    diverged = numbers["rates at which it diverged, %: 20 layers, skips alone"]
    others = {
        name: numbers[f"accuracy %: 20 layers, skips and {name}"] for name in ("batch norm", "1/√L")
    }
    worse = [name for name, accuracies in others.items() if exceeds(accuracies, deep)]
    reason = (
        f"20 layers: {percent(deep)} with skips alone ({percent(diverged)} of the rates diverge), "
        + ", ".join(f"{percent(accuracies)} with {name} too" for name, accuracies in others.items())
        + f"; 4 layers: {percent(shallow)}."
    )
    if not worse and learns(deep):
        return Verdict("supported", reason)
    if len(worse) == len(others):
        on = "depth: a shallow net does without" if learns(shallow) else ""
        return Verdict("refuted", reason, on)
    return Verdict(
        "depends", reason, f"what else there is: {' and '.join(worse) or 'nothing'} helps"
    )


@claim(
    "skips",
    statement="Skip connections alone suffice to train deep networks.",
    chinese="仅靠残差连接就足以训练深度神经网络。",
    setting="ReLU, He, width 64, digits, SGD with the best of the rates: residual nets with no "
    "more, with batch norm in the branches, with branches scaled by 1/√L.",
    earlier="20 blocks: NaN alone; loss .14 with batch norm, .16 with scaling",
    judge=_judge_skips,
)
def _skips(quick: bool) -> Numbers:
    numbers: Numbers = {}
    steps = 150 if quick else 400
    rates = (0.1,) if quick else (0.01, 0.1)
    # Alone, it gets every chance: rates far below those that the others need.
    alone = (1e-4, 1e-3, 1e-2, 1e-1) if quick else (1e-6, 1e-5, 1e-4, 1e-3, 1e-2, 1e-1)
    for name, depth, lrs, options in (
        ("4 layers, skips alone", 4, rates, {}),
        ("20 layers, skips alone", 20, alone, {}),
        ("20 layers, skips and batch norm", 20, (0.01,) if quick else rates, {"norm": "batch"}),
        ("20 layers, skips and 1/√L", 20, rates, {"scale": 1 / math.sqrt(18)}),
    ):
        residual: dict[str, Any] = {
            "depth": depth,
            "activation": "relu",
            "init": "he",
            "residual": True,
        } | options
        runs = [train(s, steps, lrs, **residual) for s in seeds(quick)]
        numbers[f"accuracy %: {name}"] = [run.accuracy for run in runs]
        if lrs is alone:
            numbers[f"rates at which it diverged, %: {name}"] = [
                100 * run.diverged / len(lrs) for run in runs
            ]
    return numbers
