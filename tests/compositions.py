"""Operations that are composed of others, as what the tests of a record need to know of them."""

import numpy as np

import tinygrad_stab as tg
from tinygrad_stab.domain import POSITIVE, REALS, Interval, Kink, case, sample


class Composition:
    """An operation that is composed of others, put through the tests of a record."""

    variadic = False

    def __init__(self, function, *cases, domain=REALS, kinks=(), analytic=True, keeps_float32=True):
        self.name, self.forward, self.cases, self.analytic = (
            function.__name__,
            function,
            cases,
            analytic,
        )
        self.domain, self.kinks = (domain,) * max(len(c.shapes) for c in cases), kinks
        self.rules = self.domain
        self.keeps_float32 = keeps_float32

    def __call__(self, *args, **params):
        return self.forward(*args, **params)

    def sample(self, case, rng):
        return sample(case, self.domain, self.kinks, rng)


F = tg.nn.functional
AT_ZERO = [Kink(lambda x, *a, **k: x, "", (), ())]
AT_TIES = [Kink(lambda x, y: np.abs(x - y), "", (), ())]
LABELS = np.array([0, 3, 1])
PROBABILITIES = np.array([0.0, 0.3, 1.0], np.float32)  # constants that widen nothing
COMPOSITIONS = [
    Composition(tg.var, case((3, 4), axis=0, ddof=1), case((2, 3)), case((0, 3), axis=1)),
    Composition(tg.norm, case((3, 4), axis=1, keepdims=True), case((4,)), domain=POSITIVE),
    Composition(tg.norm, case((3, 4), ord=1, axis=0), case((4,), ord=3, axis=0),
                case((3, 4), ord="fro"), case((2, 3), ord=1), case((2, 3), ord=np.inf),
                domain=POSITIVE, analytic=False),
    Composition(tg.dot, case((3,), (3,)), case((2, 3), (2, 3, 4)), case((2, 0), (0, 3))),
    Composition(tg.inner, case((2, 3), (4, 3)), case((3,), (3,)), case((0, 2), (3, 2))),
    Composition(tg.outer, case((2,), (3,)), case((0,), (2,))),
    Composition(tg.tensordot, case((2, 3), (3, 2), axes=1), case((2, 3), (3, 2), axes=([0], [1]))),
    Composition(tg.trace, case((3, 4), offset=1), case((2, 3, 3), axis1=1, axis2=2)),
    Composition(tg.diagonal, case((3, 4)), case((2, 3, 4), offset=-1, axis1=2, axis2=0)),
    Composition(tg.tril, case((3, 4)), case((2, 3, 3), k=-1)),
    Composition(tg.triu, case((3, 4)), case((2, 3, 3), k=1)),
    Composition(tg.ravel, case((2, 3)), case(()), case((0, 2))),
    Composition(tg.moveaxis, case((2, 3, 4), source=0, destination=-1)),
    Composition(tg.squeeze, case((1, 3, 1)), case((1, 3), axis=0), case((1, 0))),
    Composition(tg.flip, case((2, 3)), case((2, 3), axis=-1), case((0, 2))),
    Composition(tg.tile, case((2, 3), reps=2), case((2,), reps=(2, 3)), case((0,), reps=2)),
    Composition(tg.repeat, case((2, 3), repeats=2), case((2, 3), repeats=[1, 0, 2], axis=1)),
    Composition(tg.pad, case((2, 3), pad_width=1), case((0, 2), pad_width=1),
                case((3, 4), pad_width=((1, 2), (0, 1)), mode="reflect"),
                case((3,), pad_width=2, mode="edge")),
    Composition(tg.take, case((3, 4), indices=[0, 0, 2]), case((3, 4), indices=[1, -1], axis=1)),
    Composition(tg.take_along_axis, case((2, 3), indices=np.array([[2], [0]]), axis=1)),
    Composition((lambda x, src: tg.scatter_add(x, 1, np.array([[2, 2], [0, 1]]), src)),
                case((2, 3), (2, 2))),
    Composition(tg.gather, case((2, 3), dim=1, index=np.array([[2, 2], [0, 1]]))),
    Composition((lambda x, at: tg.concatenate(tg.split(x, at)[::-1])),
                case((5, 2), at=[1, 3]), case((4,), at=2)),
    Composition(tg.float_power, case((3, 4), (4,)), case((), ()), domain=POSITIVE,
                keeps_float32=False),
    Composition(tg.log_sigmoid, case((3, 4)), case(()), case((0, 2))),
    Composition(tg.silu, case((3, 4)), case(()), case((0, 2))),
    Composition(tg.gelu, case((3, 4)), case(()), case((3,), approximate="tanh")),
    Composition(tg.selu, case((3, 4)), case(()), kinks=AT_ZERO, analytic=False),
    Composition(tg.hardtanh, case((3, 4)), kinks=[Kink(lambda x: 1 - np.abs(x), "", (), ())],
                analytic=False),
    Composition(F.layer_norm, case((2, 3, 4), normalized_shape=(3, 4))),
    Composition(F.group_norm, case((2, 4, 3), num_groups=2), case((0, 4, 3), num_groups=2)),
    Composition(F.batch_norm, case((5, 3), training=True), case((4, 3, 2), training=True)),
    Composition(F.conv2d, case((2, 4, 5, 4), (4, 2, 2, 3), (4,), stride=(2, 1), padding=1,
                               groups=2)),
    Composition(F.conv1d, case((2, 3, 6), (4, 3, 2), (4,), dilation=2), case((0, 3, 6), (4, 3, 2))),
    Composition(F.avg_pool2d, case((2, 2, 4, 5), kernel_size=2)),
    Composition(F.max_pool2d, case((1, 2, 4, 4), kernel_size=2), analytic=False),
    Composition((lambda weight: F.embedding([[0, 2], [2, 2]], weight)), case((3, 2))),
    Composition((lambda x: F.dropout(x, 0.4, rng=1)), case((3, 4)), case((0, 2))),
    Composition(F.mse_loss, case((3, 4), (3, 4)), case((2,), (2,), reduction="none")),
    Composition(F.l1_loss, case((3, 4), (3, 4)), kinks=AT_TIES, analytic=False),
    Composition(F.huber_loss, case((3, 4), (3, 4)), analytic=False,
                kinks=[Kink(lambda x, y: np.abs(x - y) - 1, "", (), ())]),
    Composition(F.smooth_l1_loss, case((3, 4), (3, 4)), analytic=False,
                kinks=[Kink(lambda x, y: np.abs(x - y) - 1, "", (), ())]),
    Composition(F.cross_entropy, case((3, 4), target=LABELS)),
    Composition((lambda x: F.cross_entropy(
        x, LABELS, weight=[1.0, 2.0, 3.0, 4.0], ignore_index=1, label_smoothing=0.1)),
        case((3, 4))),
    Composition((lambda x: F.nll_loss(F.log_softmax(x), LABELS)), case((3, 4))),
    Composition(F.binary_cross_entropy, case((3,), target=PROBABILITIES),
                domain=Interval(0.1, 0.9), analytic=False),
    Composition((lambda x: F.binary_cross_entropy_with_logits(
        x, PROBABILITIES, pos_weight=2.0)), case((3,))),
    Composition((lambda x: F.kl_div(x, PROBABILITIES[:2], reduction="sum")), case((2,))),
]  # fmt: skip
