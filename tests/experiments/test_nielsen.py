"""Nielsen's published run, integer for integer."""

from tinygrad_stab.experiments.nielsen import overfitting

# Correct test images of 10 000, and training images of 1 000, after each epoch.
PUBLISHED_TEST = [5887, 6505, 6970, 7271, 7433, 7198]
PUBLISHED_TRAINING = [690, 749, 812, 848, 872, 865]


def test_overfitting_curve_of_chapter_3(mnist):
    measured = list(overfitting(*mnist, epochs=6))
    assert [epoch.test for epoch in measured] == PUBLISHED_TEST
    assert [epoch.training for epoch in measured] == PUBLISHED_TRAINING
