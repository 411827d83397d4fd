"""A small comparison of measured and predicted values."""

import numpy as np
import pandas as pd

from budsim.performance.training.comparisons import Comparison


def comparison(measured: list[float], predicted: list[float], question: list[str]) -> Comparison:
    """Return a comparison of one device and model.

    Every value is inside its interval but the first.
    """
    names = pd.DataFrame(
        {
            "device": "H100",
            "engine": "vllm",
            "model": "<b>m</b>",
            "mode": "serving",
            "question": question,
        }
    )
    inside = np.array([0.0] + [1.0] * (len(measured) - 1))
    return Comparison(
        title="t",
        quantity="TPOT, ms",
        measured=np.array(measured),
        predicted=np.array(predicted),
        inside=inside,
        names=names,
    )
