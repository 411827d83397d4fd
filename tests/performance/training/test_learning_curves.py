"""More teaches more."""

from budsim.hardware_ops.device import DeviceKind
from budsim.performance.training.cross_validation import Fitting
from budsim.performance.training.learning_curves import learning_curve


def test_more_curves_teach_more(trained):
    """Half of the curves teach one factor to a few per cent, and all of them do no worse.

    The rows are physics times that factor.
    """
    rows = trained[DeviceKind.CUDA].rows
    few, all_ = learning_curve(rows, "curve", Fitting(seed=0, rounds=30))[-2:]
    assert few.groups < all_.groups
    assert all_.median["tpot"] < few.median["tpot"] + 0.02 < 0.1
