"""Schedules at the edges: one test a statement, under its number (T…)."""

import warnings

import pytest

import tinygrad_stab as tg
from tinygrad_stab.optim import (
    SGD,
    ChainedScheduler,
    ConstantLR,
    CosineAnnealingLR,
    ExponentialLR,
    LinearLR,
    ReduceLROnPlateau,
    SequentialLR,
    StepLR,
    WarmupCosineLR,
    WarmupLR,
)


def optimizer(lr=1.0):
    return SGD([tg.tensor(1.0, requires_grad=True)], lr=lr)


def test_t16_step_lr_changes_after_the_schedules_step_and_never_before_the_first():
    sgd = optimizer()
    schedule = StepLR(sgd, 2, 0.1)
    seen = []
    for _ in range(5):
        seen.append(sgd.param_groups[0]["lr"])
        sgd.step()
        assert sgd.param_groups[0]["lr"] == seen[-1]
        schedule.step()
    assert seen == pytest.approx([1, 1, 0.1, 0.1, 0.01], rel=1e-12)


def test_t17_cosine_annealing_goes_up_again_and_warm_up_cosine_stays_down():
    periodic = CosineAnnealingLR(optimizer(), T_max=4, eta_min=0.25).preview(13)
    assert periodic[:5] == pytest.approx(periodic[8:3:-1])  # a mirror image
    assert periodic[:5] == pytest.approx(periodic[8:])  # a period
    assert periodic[4] == 0.25 < periodic[5]
    once = WarmupCosineLR(optimizer(), 0, 4, eta_min=0.25).preview(13)
    assert once[:5] == pytest.approx(periodic[:5])
    assert (once[4:] == 0.25).all()
    assert "Periodic" in CosineAnnealingLR.__doc__
    assert "never goes up again" in WarmupCosineLR.__doc__


def test_t18_linear_lr_starts_at_its_start_factor_before_the_first_step():
    sgd = optimizer(lr=0.75)
    schedule = LinearLR(sgd)
    assert sgd.param_groups[0]["lr"] == schedule.get_last_lr()[0] == pytest.approx(0.25)
    assert sgd.param_groups[0]["initial_lr"] == 0.75
    assert schedule.last_epoch == 0


@pytest.mark.parametrize(
    "make",
    [
        lambda o: StepLR(o, 2),
        lambda o: WarmupLR(o, 2),
        lambda o: SequentialLR(o, [ConstantLR(o), ExponentialLR(o, 0.5)], [3]),
        lambda o: ChainedScheduler([ConstantLR(o), ExponentialLR(o, 0.5)]),
    ],
)
def test_t19_a_step_before_the_optimizers_warns_once_and_moves_on(make):
    schedule = make(optimizer())
    with pytest.warns(UserWarning, match=r"optimizer\.step\(\) comes first.*Swap") as caught:
        schedule.step()
    assert [w.filename for w in caught] == [__file__]
    schedule.step()  # a second warning would be an error
    assert schedule.last_epoch == 2


def test_t19_no_warning_in_order_nor_after_a_checkpoint_nor_on_a_plateau():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        one = StepLR(optimizer(), 2)
        one.optimizer.step()
        one.step()
        other = StepLR(optimizer(), 2)
        other.load_state_dict(one.state_dict())
        other.step()
        ReduceLROnPlateau(optimizer()).step(1.0)
