"""What PyTorch was asked, and what this package is asked: the same lines, run with either library.

A case is a function of a library's `nn` or `optim`, so names, arguments and defaults are tested
too. `make.py` runs them with PyTorch and writes `golden.npz`; `test_golden.py` compares.
"""

import numpy as np

# --- layers: how to make one, and the shapes of what it is given

LAYERS = {
    "linear": (lambda nn: nn.Linear(5, 3), [(4, 5)]),
    "linear_3d_no_bias": (lambda nn: nn.Linear(5, 3, bias=False), [(2, 4, 5)]),
    "identity": (lambda nn: nn.Identity(), [(3, 4)]),
    "flatten": (lambda nn: nn.Flatten(), [(3, 2, 4, 2)]),
    "flatten_from_2": (lambda nn: nn.Flatten(2, 3), [(3, 2, 4, 2, 2)]),
    "relu": (lambda nn: nn.ReLU(), [(3, 4)]),
    "leaky_relu": (lambda nn: nn.LeakyReLU(), [(3, 4)]),
    "leaky_relu_steep": (lambda nn: nn.LeakyReLU(0.3), [(3, 4)]),
    "elu": (lambda nn: nn.ELU(), [(3, 4)]),
    "elu_alpha": (lambda nn: nn.ELU(0.5), [(3, 4)]),
    "selu": (lambda nn: nn.SELU(), [(3, 4)]),
    "gelu": (lambda nn: nn.GELU(), [(3, 4)]),
    "gelu_tanh": (lambda nn: nn.GELU(approximate="tanh"), [(3, 4)]),
    "silu": (lambda nn: nn.SiLU(), [(3, 4)]),
    "softplus": (lambda nn: nn.Softplus(), [(3, 4)]),
    "softplus_beta": (lambda nn: nn.Softplus(beta=2.0), [(3, 4)]),
    "sigmoid": (lambda nn: nn.Sigmoid(), [(3, 4)]),
    "tanh": (lambda nn: nn.Tanh(), [(3, 4)]),
    "softmax": (lambda nn: nn.Softmax(dim=1), [(3, 4, 2)]),
    "log_softmax": (lambda nn: nn.LogSoftmax(dim=-1), [(3, 4)]),
    "dropout_none": (lambda nn: nn.Dropout(0.0), [(3, 4)]),
    "dropout_all": (lambda nn: nn.Dropout(1.0), [(3, 4)]),
    "batch_norm_1d": (lambda nn: nn.BatchNorm1d(4), [(6, 4)]),
    "batch_norm_1d_length": (lambda nn: nn.BatchNorm1d(4, eps=1e-3, momentum=0.3), [(1, 4, 5)]),
    "batch_norm_1d_average": (lambda nn: nn.BatchNorm1d(4, momentum=None), [(6, 4)]),
    "batch_norm_1d_plain": (
        lambda nn: nn.BatchNorm1d(4, affine=False, track_running_stats=False),
        [(6, 4)],
    ),
    "batch_norm_2d": (lambda nn: nn.BatchNorm2d(3), [(2, 3, 4, 4)]),
    "layer_norm": (lambda nn: nn.LayerNorm(4), [(3, 4)]),
    "layer_norm_2_axes": (lambda nn: nn.LayerNorm((2, 4), eps=1e-3), [(3, 2, 4)]),
    "layer_norm_plain": (lambda nn: nn.LayerNorm(4, elementwise_affine=False), [(3, 4)]),
    "layer_norm_no_bias": (lambda nn: nn.LayerNorm(4, bias=False), [(3, 4)]),
    "group_norm": (lambda nn: nn.GroupNorm(2, 6), [(3, 6, 5)]),
    "group_norm_plain": (lambda nn: nn.GroupNorm(3, 6, affine=False), [(3, 6, 2, 2)]),
    "conv_1d": (lambda nn: nn.Conv1d(3, 4, 3, stride=2, padding=1, dilation=2), [(2, 3, 12)]),
    "conv_2d": (lambda nn: nn.Conv2d(3, 4, 3), [(2, 3, 6, 7)]),
    "conv_2d_options": (
        lambda nn: nn.Conv2d(4, 6, (3, 2), (2, 1), (1, 2), (1, 2), groups=2, bias=False),
        [(2, 4, 8, 7)],
    ),
    "conv_2d_same": (lambda nn: nn.Conv2d(2, 2, 3, padding="same"), [(1, 2, 5, 5)]),
    "max_pool_2d": (lambda nn: nn.MaxPool2d(2), [(2, 3, 6, 6)]),
    "max_pool_2d_options": (lambda nn: nn.MaxPool2d(3, 2, padding=1), [(2, 3, 7, 6)]),
    "avg_pool_2d": (lambda nn: nn.AvgPool2d(2), [(2, 3, 6, 6)]),
    "avg_pool_2d_options": (lambda nn: nn.AvgPool2d(3, 2, 1), [(2, 3, 7, 6)]),
    "rnn_cell": (lambda nn: nn.RNNCell(3, 4), [(2, 3), (2, 4)]),
    "rnn_cell_relu": (lambda nn: nn.RNNCell(3, 4, bias=False, nonlinearity="relu"), [(2, 3)]),
    "lstm_cell": (lambda nn: nn.LSTMCell(3, 4), [(2, 3), ((2, 4), (2, 4))]),
    "lstm_cell_zeros": (lambda nn: nn.LSTMCell(3, 4, bias=False), [(3,)]),
    "gru_cell": (lambda nn: nn.GRUCell(3, 4), [(2, 3), (2, 4)]),
    "rnn": (lambda nn: nn.RNN(3, 4), [(5, 2, 3), (1, 2, 4)]),
    "rnn_relu_deep": (
        lambda nn: nn.RNN(3, 4, 2, nonlinearity="relu", bias=False, batch_first=True),
        [(2, 5, 3)],
    ),
    "rnn_both_ways": (
        lambda nn: nn.RNN(3, 4, num_layers=2, bidirectional=True),
        [(5, 2, 3), (4, 2, 4)],
    ),
    "lstm": (lambda nn: nn.LSTM(3, 4), [(5, 2, 3)]),
    "lstm_deep": (
        lambda nn: nn.LSTM(3, 4, num_layers=2, batch_first=True),
        [(2, 5, 3), ((2, 2, 4), (2, 2, 4))],
    ),
    "lstm_both_ways": (lambda nn: nn.LSTM(3, 2, bidirectional=True), [(4, 2, 3)]),
    "gru": (lambda nn: nn.GRU(3, 4), [(5, 3)]),
    "gru_deep": (lambda nn: nn.GRU(3, 4, num_layers=3), [(5, 2, 3), (3, 2, 4)]),
}

# Layers that are given integers, and how many there are to choose from.
LOOKUPS = {
    "embedding": (lambda nn: nn.Embedding(7, 3), (2, 4), 7),
    "embedding_padding": (lambda nn: nn.Embedding(7, 3, padding_idx=2), (9,), 7),
}

# --- losses: how to make one, the shape of the input, what the target is made of

LOSSES = {
    "mse": (lambda nn, a: nn.MSELoss(), (4, 3), "real"),
    "mse_sum": (lambda nn, a: nn.MSELoss(reduction="sum"), (4, 3), "real"),
    "mse_none": (lambda nn, a: nn.MSELoss(reduction="none"), (4, 3), "real"),
    "l1": (lambda nn, a: nn.L1Loss(), (4, 3), "real"),
    "smooth_l1": (lambda nn, a: nn.SmoothL1Loss(beta=0.5), (4, 3), "real"),
    "huber": (lambda nn, a: nn.HuberLoss(delta=0.7), (4, 3), "real"),
    "cross_entropy": (lambda nn, a: nn.CrossEntropyLoss(), (6, 4), "class"),
    "cross_entropy_all": (
        lambda nn, a: nn.CrossEntropyLoss(
            weight=a([0.5, 1.0, 2.0, 3.0]), ignore_index=1, label_smoothing=0.2
        ),
        (8, 4),
        "class",
    ),
    "cross_entropy_sum": (
        lambda nn, a: nn.CrossEntropyLoss(reduction="sum", label_smoothing=0.1),
        (6, 4),
        "class",
    ),
    "cross_entropy_images": (lambda nn, a: nn.CrossEntropyLoss(), (2, 4, 3), "class"),
    "cross_entropy_soft": (
        lambda nn, a: nn.CrossEntropyLoss(weight=a([0.5, 1.0, 2.0, 3.0]), label_smoothing=0.1),
        (6, 4),
        "distribution",
    ),
    "nll": (
        lambda nn, a: nn.NLLLoss(weight=a([0.5, 1.0, 2.0, 3.0]), ignore_index=2),
        (6, 4),
        "class",
    ),
    "bce": (lambda nn, a: nn.BCELoss(), (4, 3), "probability"),
    "bce_weight": (lambda nn, a: nn.BCELoss(weight=a([1.0, 2.0, 0.5])), (4, 3), "probability"),
    "bce_logits": (lambda nn, a: nn.BCEWithLogitsLoss(), (4, 3), "probability"),
    "bce_logits_weights": (
        lambda nn, a: nn.BCEWithLogitsLoss(
            weight=a([1.0, 2.0, 0.5]), pos_weight=a([3.0, 1.0, 0.2]), reduction="sum"
        ),
        (4, 3),
        "probability",
    ),
    "kl_div": (lambda nn, a: nn.KLDivLoss(reduction="batchmean"), (4, 3), "distribution"),
    "kl_div_log": (lambda nn, a: nn.KLDivLoss(reduction="sum", log_target=True), (4, 3), "real"),
}
# Losses whose input is a probability, not any real number.
OF_PROBABILITIES = {"bce", "bce_weight"}

# --- optimisers: ten steps on two parameters; the second has no gradient at the steps 2 and 5

OPTIMIZERS = {
    "sgd": lambda optim, p: optim.SGD(p, lr=0.1),
    "sgd_momentum": lambda optim, p: optim.SGD(p, lr=0.1, momentum=0.9),
    "sgd_dampening": lambda optim, p: optim.SGD(
        p, lr=0.1, momentum=0.8, dampening=0.3, weight_decay=0.05
    ),
    "sgd_nesterov": lambda optim, p: optim.SGD(p, lr=0.1, momentum=0.9, nesterov=True),
    "sgd_maximize": lambda optim, p: optim.SGD(p, lr=0.1, weight_decay=0.1, maximize=True),
    "adagrad": lambda optim, p: optim.Adagrad(p),
    "adagrad_options": lambda optim, p: optim.Adagrad(
        p, lr=0.1, lr_decay=0.2, weight_decay=0.1, initial_accumulator_value=0.3, eps=1e-6
    ),
    "rmsprop": lambda optim, p: optim.RMSprop(p),
    "rmsprop_centered": lambda optim, p: optim.RMSprop(p, lr=0.02, alpha=0.8, centered=True),
    "rmsprop_momentum": lambda optim, p: optim.RMSprop(
        p, lr=0.02, momentum=0.9, weight_decay=0.1, eps=1e-4, centered=True
    ),
    "adam": lambda optim, p: optim.Adam(p),
    "adam_options": lambda optim, p: optim.Adam(
        p, lr=0.05, betas=(0.8, 0.95), eps=1e-4, weight_decay=0.1
    ),
    "adam_amsgrad": lambda optim, p: optim.Adam(p, lr=0.05, betas=(0.5, 0.6), amsgrad=True),
    "adamw": lambda optim, p: optim.AdamW(p),
    "adamw_options": lambda optim, p: optim.AdamW(
        p, lr=0.05, betas=(0.5, 0.6), weight_decay=0.3, amsgrad=True
    ),
    "sgd_groups": lambda optim, p: optim.SGD(
        [{"params": [p[0]], "lr": 0.5}, {"params": [p[1]], "momentum": 0.5}], lr=0.1
    ),
    "adamw_groups": lambda optim, p: optim.AdamW(
        [{"params": p[:1], "weight_decay": 0.0}, {"params": p[1:], "betas": (0.5, 0.9)}], lr=0.1
    ),
}

# --- schedules: twenty values; `s` holds the schedules, `o` is SGD with lr=0.5 and 0.05 (momentum)

SCHEDULES = {
    "step": lambda s, o: s.StepLR(o, step_size=3, gamma=0.5),
    "multi_step": lambda s, o: s.MultiStepLR(o, milestones=[2, 5, 5, 11], gamma=0.3),
    "constant": lambda s, o: s.ConstantLR(o, factor=0.2, total_iters=4),
    "exponential": lambda s, o: s.ExponentialLR(o, gamma=0.9),
    "linear": lambda s, o: s.LinearLR(o),
    "linear_options": lambda s, o: s.LinearLR(
        o, start_factor=0.1, end_factor=0.8, total_iters=7
    ),
    "cosine": lambda s, o: s.CosineAnnealingLR(o, T_max=8, eta_min=0.01),
    "lambda": lambda s, o: s.LambdaLR(o, lambda epoch: 1 / (1 + epoch)),
    "lambda_groups": lambda s, o: s.LambdaLR(o, [lambda e: 0.9**e, lambda e: 1.0 + e]),
    "one_cycle": lambda s, o: s.OneCycleLR(o, max_lr=1.0, total_steps=20),
    "one_cycle_options": lambda s, o: s.OneCycleLR(
        o, max_lr=[1.0, 0.4], epochs=5, steps_per_epoch=4, pct_start=0.4,
        anneal_strategy="linear", base_momentum=0.7, max_momentum=0.9, div_factor=10.0,
        final_div_factor=100.0, three_phase=True,
    ),
    "sequential": lambda s, o: s.SequentialLR(
        o,
        schedulers=[
            s.LinearLR(o, start_factor=0.1, total_iters=4),
            s.CosineAnnealingLR(o, T_max=10),
        ],
        milestones=[4],
    ),
    "sequential_three": lambda s, o: s.SequentialLR(
        o,
        schedulers=[
            s.ConstantLR(o, factor=0.1, total_iters=2),
            s.ExponentialLR(o, gamma=0.9),
            s.StepLR(o, step_size=2),
        ],
        milestones=[3, 8],
    ),
    "chained": lambda s, o: s.ChainedScheduler(
        [s.ConstantLR(o, factor=0.1, total_iters=2), s.ExponentialLR(o, gamma=0.9)]
    ),
}  # fmt: skip

# Twenty values of a loss, and the schedule that looks at them.
PLATEAU = [5, 4, 4.1, 4.2, 3.9999, 4, 4, 4, 4, 1, 1, 1, 1, 0.5, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0]
PLATEAUS = {
    "plateau": lambda s, o: s.ReduceLROnPlateau(o, patience=2),
    "plateau_options": lambda s, o: s.ReduceLROnPlateau(
        o, mode="max", factor=0.5, patience=1, threshold=0.1, threshold_mode="abs", cooldown=2,
        min_lr=[0.1, 0.01],
    ),
}  # fmt: skip


def numbers(name: str, shape: object) -> object:
    """Inputs of a case: the same wherever they are drawn, for the seed is the name."""
    rng = np.random.default_rng(list(name.encode()))
    if isinstance(shape, tuple) and shape and isinstance(shape[0], tuple):
        return tuple(rng.normal(size=inner) for inner in shape)
    return rng.normal(size=shape)


def rows(name: str, shape: tuple[int, ...], count: int) -> np.ndarray:
    """What an embedding is asked for."""
    return np.random.default_rng(list(name.encode())).integers(count, size=shape)


def target(name: str, shape: tuple[int, ...], kind: str) -> np.ndarray:
    """Targets of a loss: "real", "probability", "distribution" over axis 1, or "class"."""
    rng = np.random.default_rng(list(f"{name} target".encode()))
    if kind == "class":
        return rng.integers(shape[1], size=(shape[0], *shape[2:]))
    if kind == "probability":
        return rng.uniform(size=shape)
    if kind == "distribution":
        weights = rng.uniform(0.1, 1, size=shape)
        return weights / weights.sum(axis=1, keepdims=True)
    return rng.normal(size=shape)


def loss_input(name: str, shape: tuple[int, ...]) -> np.ndarray:
    """Inputs of a loss: any numbers, or probabilities."""
    x = numbers(name, shape)
    return 1 / (1 + np.exp(-x)) if name in OF_PROBABILITIES else x


def quadratic(step: int) -> list[np.ndarray | None]:
    """Gradients of the two parameters, of shapes (3, 2) and (4,), at a step of an optimiser."""
    rng = np.random.default_rng([2024, step])
    return [rng.normal(size=(3, 2)), None if step in (2, 5) else rng.normal(size=4)]


def start() -> list[np.ndarray]:
    """The two parameters before the first step."""
    rng = np.random.default_rng(7)
    return [rng.normal(size=(3, 2)), rng.normal(size=4)]
