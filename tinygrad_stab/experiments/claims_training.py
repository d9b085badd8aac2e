"""Claims about training: regularisation, learning rates, clipping, optimisers."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from ..nn import CrossEntropyLoss
from ..optim import (
    SGD,
    Adam,
    RMSprop,
    clip_grad_norm_,
    clip_grad_value_,
    l1_penalty,
    l2_penalty,
)
from ..training import accuracy
from .claims import (
    Numbers,
    Split,
    Verdict,
    about,
    claim,
    digits,
    exceeds,
    learns,
    percent,
    rates,
    seeds,
    spread,
    stack,
    train,
    weight_gradients,
)
from .temporal_order import learn

# What an exploding gradient is multiplied by, and the rate and bound that it meets.
SPIKE, LR, BOUND = 1e6, 0.1, 1.0


def _judge_regularisation(numbers: Numbers) -> Verdict:
    without = numbers["‖∂L/∂W₁‖: λ = 0"]
    penalised = {name.split(": ")[1]: v for name, v in numbers.items() if v is not without}
    eased = [name for name, values in penalised.items() if exceeds(values, without)]
    reason = f"‖∂L/∂W₁‖ is {about(without)} without a penalty; " + "; ".join(
        f"{name}: {about(values)}" for name, values in penalised.items()
    )
    if len(eased) == len(penalised):
        return Verdict("supported", f"{reason}.")
    if not eased:
        return Verdict("refuted", f"{reason}.")
    return Verdict("depends", f"{reason}.", f"the penalty: {' and '.join(eased)} ease it")


@claim(
    "regularisation",
    statement="L1 or L2 regularisation eases vanishing gradients.",
    chinese="L1 或 L2 正则化可以缓解梯度消失。",
    setting="Sigmoid, Xavier, depth 6, width 64, digits, SGD at .5, float64: the gradient of the "
    "cross-entropy alone, after training with the penalty on the weights.",
    earlier="‖∂L/∂W₁‖ for λ = 0, 1e-3, 1e-2: 1.5e-4, 1.9e-5, 1.3e-11",
    judge=_judge_regularisation,
)
def _regularisation(quick: bool) -> Numbers:
    steps = 150 if quick else 500
    numbers = {"‖∂L/∂W₁‖: λ = 0": [_penalised(s, steps, None, 0.0) for s in seeds(quick)]}
    for name, penalty in (("L1", l1_penalty), ("L2", l2_penalty)):
        for strength in (1e-3, 1e-2):
            numbers[f"‖∂L/∂W₁‖: {name}, λ = {strength}"] = [
                _penalised(s, steps, penalty, strength) for s in seeds(quick)
            ]
    return numbers


def _penalised(seed: int, steps: int, penalty: Callable[..., Any] | None, strength: float) -> float:
    """‖∂L/∂W₁‖ of the loss without the penalty, after training with it."""
    split, loss_of = digits(seed), CrossEntropyLoss()
    model = stack(split, dtype="float64")  # the gradients become too small for float32
    weights = [block.linear.weight for block in model.layers]
    optimizer = SGD(model.parameters(), lr=0.5)
    for _ in range(steps):
        batch = split.rng.integers(len(split.x), size=64)
        optimizer.zero_grad()
        loss = loss_of(model(split.x[batch]), split.labels[batch])
        if penalty is not None:
            loss = loss + penalty(weights, strength)
        loss.backward(retain="leaves")
        optimizer.step()
    return weight_gradients(model, split)[0]


def _judge_learning_rate(numbers: Numbers) -> Verdict:
    lrs = [float(name.split()[-1]) for name in numbers if "at step 0" in name]
    start, later = (
        [numbers[f"‖∂L/∂W₁‖ {when}: tanh, lr {lr:g}"] for lr in lrs]
        for when in ("at step 0", "later")
    )
    low, high = lrs.index(min(lrs)), lrs.index(max(lrs))
    # Ten times less, for gradients change a little in any training.
    at_start, after = (exceeds(g[low], g[high], times=10) for g in (start, later))
    same = all(gradients == start[0] for gradients in start)
    zero, overflow = (
        spread(numbers[f"{what}: ReLU, lr 1"]) for what in ("gradient exactly 0 later", "overflow")
    )
    reason = (
        f"tanh, at step 0: ‖∂L/∂W₁‖ {about(start[low])} at lr {min(lrs):g}, {about(start[high])} "
        f"at lr {max(lrs):g}{' (the same bits)' if same else ''}; after training "
        f"{about(later[low])} and {about(later[high])}. ReLU at lr 1: {zero} nets end at exactly "
        f"0, {overflow} overflow."
    )
    if at_start and after:
        return Verdict("supported", reason)
    if after:
        return Verdict("depends", reason, "when one looks: at step 0 it cannot, later it does")
    if at_start:
        return Verdict("depends", reason, "when one looks: at step 0 only")
    return Verdict("refuted", reason)


@claim(
    "learning-rate",
    statement="A learning rate that is too large causes vanishing gradients.",
    chinese="学习率过大会导致梯度消失。",
    setting="tanh (Xavier) and ReLU (He), depth 6, width 64, digits, SGD, float64: the gradient "
    "before and after training.",
    earlier="at step 0 the same for every lr from .001 to 10; ReLU at lr 10: later exactly 0",
    judge=_judge_learning_rate,
)
def _learning_rate(quick: bool) -> Numbers:
    numbers: Numbers = {}
    steps = 100 if quick else 500
    tanh = {"activation": "tanh", "init": "xavier"}
    for lr in (0.001, 0.1, 10.0) if quick else (0.001, 0.01, 0.1, 1.0, 10.0):
        pairs = [_at_rate(s, lr, steps, tanh) for s in seeds(quick)]
        numbers[f"‖∂L/∂W₁‖ at step 0: tanh, lr {lr:g}"] = [start for start, _ in pairs]
        numbers[f"‖∂L/∂W₁‖ later: tanh, lr {lr:g}"] = [later for _, later in pairs]
    relu = {"activation": "relu", "init": "he"}
    later = [_at_rate(s, 1.0, steps, relu)[1] for s in seeds(quick)]
    numbers["gradient exactly 0 later: ReLU, lr 1"] = [g == 0 for g in later]
    numbers["overflow: ReLU, lr 1"] = [not math.isfinite(g) for g in later]
    return numbers


def _at_rate(seed: int, lr: float, steps: int, net: dict[str, Any]) -> tuple[float, float]:
    """‖∂L/∂W₁‖ before and after training."""
    split, options = digits(seed), net | {"dtype": "float64"}
    before = weight_gradients(stack(split, **options), split)[0]
    return before, weight_gradients(train(seed, steps, (lr,), **options).model, split)[0]


def _judge_decay(numbers: Numbers) -> Verdict:
    spike = {name: numbers[f"‖Δw‖ under a spike: {name}"] for name in ("× 0.99", "clipped")}
    still = {name: numbers[f"‖Δw‖ without gradient: {name}"] for name in ("× 0.99", "clipped")}
    apart = numbers["‖Δw − Δw of weight decay‖ / ‖Δw‖: × 0.99"]
    # Clipping bounds a step and leaves a small gradient alone: does × 0.99 do either?
    unbounded = exceeds(spike["× 0.99"], spike["clipped"], times=2)
    moves = exceeds(still["× 0.99"], still["clipped"], times=2)
    decay = "; it is weight decay" if not exceeds(apart, 1e-10) else ""  # float64, to rounding
    reason = (
        f"‖Δw‖ under a spike is {about(spike['× 0.99'])} with × 0.99, {about(spike['clipped'])} "
        f"with clipping; without any gradient {about(still['× 0.99'])} and "
        f"{about(still['clipped'])}{decay}."
    )
    if unbounded and moves:
        return Verdict("refuted", reason)
    if not unbounded and not moves:
        return Verdict("supported", reason)
    return Verdict("depends", reason, "the gradient's size")


@claim(
    "decay-is-clipping",
    statement="Multiplying the parameters by 0.99 is gradient clipping.",
    chinese="每一步将参数乘以 0.99，就是梯度裁剪。",
    setting="Sigmoid, Xavier, depth 6, width 64, digits: one step of SGD at .1, the gradient "
    "multiplied by 1e6, or by 0; clipped to norm 1. Weight decay: SGD's, .1.",
    earlier="under a spike the update is 3.2e4 against .1",
    judge=_judge_decay,
)
def _decay(quick: bool) -> Numbers:
    def shrunk(parameters: list[Any]) -> None:
        for p in parameters:
            p.data *= 0.99
        SGD(parameters, LR).step()

    def decayed(parameters: list[Any]) -> None:
        SGD(parameters, LR, weight_decay=0.01 / LR).step()

    def clipped(parameters: list[Any]) -> None:
        clip_grad_norm_(parameters, BOUND)
        SGD(parameters, LR).step()

    numbers: Numbers = {}
    for words, scale in (("under a spike", SPIKE), ("without gradient", 0.0)):
        for name, step in (("× 0.99", shrunk), ("clipped", clipped)):
            numbers[f"‖Δw‖ {words}: {name}"] = [
                float(np.linalg.norm(_change(digits(s), scale, step)[0])) for s in seeds(quick)
            ]
    found = numbers["‖Δw − Δw of weight decay‖ / ‖Δw‖: × 0.99"] = []
    for s in seeds(quick):
        change, decay = (_change(digits(s), 1.0, step)[0] for step in (shrunk, decayed))
        found.append(float(np.linalg.norm(change - decay) / np.linalg.norm(change)))
    return numbers


def _change(
    split: Split, scale: float, step: Callable[[list[Any]], None]
) -> tuple[np.ndarray, np.ndarray]:
    """What a step does to all parameters, as one vector; and the gradient, ``scale`` times that
    of the cross-entropy, that it was given.
    """
    model = stack(split, dtype="float64")
    parameters: list[Any] = list(model.parameters())
    (scale * CrossEntropyLoss()(model(split.x), split.labels)).backward(retain="leaves")
    before = np.concatenate([p.data.ravel() for p in parameters])
    gradient = np.concatenate([p.grad.ravel() for p in parameters])
    step(parameters)
    return np.concatenate([p.data.ravel() for p in parameters]) - before, gradient


def _judge_clippings(numbers: Numbers) -> Verdict:
    cosines = {name.split(": ")[1]: values for name, values in numbers.items()}
    # Within 1 % of a right angle's cosine no one would speak of another direction.
    straight = [
        name for name, values in cosines.items() if not exceeds([0.99] * len(values), values)
    ]
    reason = "Cosine of the step with −g: " + ", ".join(
        f"{about(values)} by {name}" for name, values in cosines.items()
    )
    if len(straight) == len(cosines):
        return Verdict("supported", f"{reason}.")
    kept = f"; {' and '.join(straight)} keeps the direction" if straight else ""
    return Verdict("refuted", f"{reason}{kept}.")


@claim(
    "clippings",
    statement="Clipping by value, clipping the weights and clipping by norm are the same.",
    chinese="按值裁剪、裁剪权重和按范数裁剪是一回事。",
    setting="Sigmoid, Xavier, depth 6, width 64, digits: one step of SGD at .1 on a gradient "
    "multiplied by 1e6, each bound 1.",
    earlier="cosine with −g: .786 by value, .702 by weights, 1.000 by norm",
    judge=_judge_clippings,
)
def _clippings(quick: bool) -> Numbers:
    def value(parameters: list[Any]) -> None:
        clip_grad_value_(parameters, BOUND)
        SGD(parameters, LR).step()

    def weights(parameters: list[Any]) -> None:
        SGD(parameters, LR).step()
        for p in parameters:
            p.data = np.clip(p.data, -BOUND, BOUND)

    def norm(parameters: list[Any]) -> None:
        clip_grad_norm_(parameters, BOUND)
        SGD(parameters, LR).step()

    numbers: Numbers = {}
    for step in (value, weights, norm):
        changes = [_change(split, SPIKE, step) for split in map(digits, seeds(quick))]
        numbers[f"cosine of the step with −g: {step.__name__}"] = [
            float(-change @ g / np.linalg.norm(change) / np.linalg.norm(g)) for change, g in changes
        ]
    return numbers


def _judge_clipping(numbers: Numbers) -> Verdict:
    pairs = [
        (name.removesuffix(", plain"), values, numbers[name.replace("plain", "clipped")])
        for name, values in numbers.items()
        if name.endswith("plain")
    ]
    cured = [learns(clipped) and exceeds(clipped, plain) for _, plain, clipped in pairs]
    factor = numbers["what clipping multiplies ‖∂L/∂W₁‖ by: sigmoid stack"]
    reason = "; ".join(
        f"{name.removeprefix('accuracy %: ')}: {percent(plain)} without, {percent(clipped)} with it"
        for name, plain, clipped in pairs
    )
    reason += f"; at the start clipping multiplies ‖∂L/∂W₁‖ by {about(factor)}"
    if all(cured):
        return Verdict("supported", f"{reason}.")
    if any(cured):
        return Verdict("depends", f"{reason}.", "the net")
    return Verdict("refuted", f"{reason}.")


@claim(
    "clipping-vanishing",
    statement="Gradient clipping fixes vanishing gradients.",
    chinese="梯度裁剪可以解决梯度消失。",
    setting="Clipping to norm 1. Sigmoid, Xavier, depth 6, digits, SGD with the best of the rates; "
    "in full also the temporal order problem, T = 50, tanh RNN, SGD at .3 (guessing: 25 %).",
    earlier="temporal order, T = 50: solved by 0 of 4 nets",
    judge=_judge_clipping,
)
def _clipping(quick: bool) -> Numbers:
    numbers: Numbers = {}
    for name, bound in (("plain", None), ("clipped", BOUND)):
        numbers[f"accuracy %: sigmoid stack, {name}"] = [
            train(s, 300 if quick else 1000, rates(quick), clip_norm=bound).accuracy
            for s in seeds(quick)
        ]
        if not quick:
            numbers[f"accuracy %: RNN over 50 steps, {name}"] = [
                100 * learn(s, clip_norm=bound, length=50).accuracy for s in range(5)
            ]
    factors = numbers["what clipping multiplies ‖∂L/∂W₁‖ by: sigmoid stack"] = []
    for split in map(digits, seeds(quick)):
        model = stack(split)
        before = weight_gradients(model, split)[0]
        clip_grad_norm_(model.parameters(), BOUND)
        after: Any = model.layers[0].linear.weight.grad
        factors.append(float(np.linalg.norm(after)) / before)
    return numbers


def _judge_gradient(numbers: Numbers) -> Verdict:
    gradients = [numbers[f"‖∂L/∂w‖: loss × {scale}"] for scale in (1, 1000)]
    accuracies = [numbers[f"accuracy %: loss × {scale}"] for scale in (1, 1000)]
    larger = exceeds(gradients[1], gradients[0], times=10)
    moved = exceeds(accuracies[0], accuracies[1]) or exceeds(accuracies[1], accuracies[0])
    reason = (
        f"With the loss × 1000 the gradient goes from {about(gradients[0])} to "
        f"{about(gradients[1])}, the accuracy from {percent(accuracies[0])} to "
        f"{percent(accuracies[1])}."
    )
    if larger and not moved:
        return Verdict("refuted", reason)
    if larger and moved:
        return Verdict("supported", reason)
    return Verdict("depends", reason, "the loss: its scale did not tell them apart")


@claim(
    "gradient-accuracy",
    statement="The size of the gradient measures accuracy.",
    chinese="梯度的大小可以衡量模型的准确率。",
    setting="ReLU, He, depth 6, width 64, digits, after SGD on the loss at .1, and on 1000 times "
    "the loss at .0001, from the same weights.",
    earlier="loss × 1000: gradient × 1000, the same accuracy",
    judge=_judge_gradient,
)
def _gradient(quick: bool) -> Numbers:
    numbers: Numbers = {}
    for scale in (1, 1000):
        rows = np.array([_at_scale(s, scale, 200 if quick else 500) for s in seeds(quick)])
        numbers[f"‖∂L/∂w‖: loss × {scale}"] = rows[:, 0].tolist()
        numbers[f"accuracy %: loss × {scale}"] = rows[:, 1].tolist()
    return numbers


def _at_scale(seed: int, scale: int, steps: int) -> tuple[float, float]:
    """‖∂L/∂w‖ of all weights and accuracy in percent, after training on a multiple of the loss."""
    split, loss_of = digits(seed), CrossEntropyLoss()
    model = stack(split, activation="relu", init="he", dtype="float64")
    optimizer = SGD(model.parameters(), lr=0.1 / scale)
    for _ in range(steps):
        batch = split.rng.integers(len(split.x), size=64)
        optimizer.zero_grad()
        (scale * loss_of(model(split.x[batch]), split.labels[batch])).backward(retain="leaves")
        optimizer.step()
    size = scale * float(np.linalg.norm(weight_gradients(model, split)))
    return size, 100 * accuracy(model, split.x_test, split.labels_test)


def _judge_adaptive(numbers: Numbers) -> Verdict:
    nets = [name.removesuffix(", SGD") for name in numbers if name.endswith(", SGD")]
    eased, words = [], []
    for net in nets:
        plain = numbers[f"{net}, SGD"]
        found = {name: numbers[f"{net}, {name}"] for name in ("RMSprop", "Adam")}
        eased += [exceeds(values, plain) for values in found.values()]
        words.append(
            f"{net.removeprefix('accuracy %: ')}: SGD {percent(plain)}, "
            + ", ".join(f"{name} {percent(values)}" for name, values in found.items())
        )
    reason = "; ".join(words) + "."
    if all(eased):
        return Verdict("supported", reason)
    if any(eased):
        return Verdict("depends", reason, "the optimiser and the net")
    return Verdict("refuted", reason)


@claim(
    "adaptive",
    statement="Adam and RMSprop ease vanishing gradients.",
    chinese="Adam 和 RMSprop 优化器可以缓解梯度消失。",
    setting="Xavier, width 64, digits, the best of its rates for each: sigmoid of depth 6, "
    "ReLU of depth 30.",
    earlier="ReLU, depth 30: Adam 54–77 %, SGD 20–39 %",
    judge=_judge_adaptive,
)
def _adaptive(quick: bool) -> Numbers:
    numbers: Numbers = {}
    nets: list[tuple[str, dict[str, Any], int]] = [
        ("sigmoid, depth 6", {}, 300 if quick else 1000),
        ("ReLU, depth 30", {"depth": 30, "activation": "relu"}, 100 if quick else 500),
    ]
    for net, options, steps in nets:
        for optimizer in (SGD, RMSprop, Adam):
            adaptive = (0.0005, 0.003) if quick else (0.0003, 0.001, 0.003)
            lrs = rates(quick) if optimizer is SGD else adaptive
            numbers[f"accuracy %: {net}, {optimizer.__name__}"] = [
                train(s, steps, lrs, optimizer=optimizer, **options).accuracy for s in seeds(quick)
            ]
    return numbers
