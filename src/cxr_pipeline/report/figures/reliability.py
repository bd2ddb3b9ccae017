"""Whether probabilities are frequencies.

``y_true`` [n] is 1.0, 0.0 or NaN (unknown, left out), ``probability`` [n] is that of the positive class in [0, 1].
"""

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from cxr_pipeline.evaluation.metrics import equal_mass_bins, known_images
from cxr_pipeline.report.figures.curves import count_images
from cxr_pipeline.report.figures.style import BLUE, GREY, png, sheet, words


def reliability(y_true: ArrayLike, probability: ArrayLike) -> bytes:
    """Share of positive images over the probability given, in bins of equal mass, above its histogram."""
    bins = reliability_bins(y_true, probability)
    if bins.empty:
        return words("No reliability plot: no image has a known label.")
    sizes = " to ".join(str(size) for size in sorted({bins["n"].min(), bins["n"].max()}))
    label = f"test images, {len(bins)} bins of {sizes}"
    reach = np.clip([bins["observed"] - bins["low"], bins["high"] - bins["observed"]], 0, 1)
    with sheet(height=5.6) as figure:
        upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=(4, 1))
        upper.plot([0, 1], [0, 1], color=GREY, linestyle=":", linewidth=1.5, label="perfect")
        upper.errorbar(bins["probability"], bins["observed"], reach, fmt="o-", color=BLUE, elinewidth=1.2, label=label)
        upper.set(ylim=(-0.02, 1.02), ylabel="share of positive images")
        upper.legend(loc="upper left")
        count_images(lower, known_images(y_true, probability)[1], color=BLUE)
        lower.set_xlabel("probability given")
        return png(figure)


def reliability_bins(y_true: ArrayLike, probability: ArrayLike) -> pd.DataFrame:
    """What lies in each of the ten bins of equal mass on which the expected calibration error rests.

    Returns:
        A row for each bin that holds an image: ``n`` images, their mean ``probability``, the ``observed`` share of
        positive images, and ``low`` and ``high`` of its 95 % interval (Wilson, 1927).
    """
    from scipy.stats import binomtest

    positive, scores = known_images(y_true, probability)
    images = pd.DataFrame({"positive": positive, "probability": scores})
    bins = images.groupby(equal_mass_bins(scores)).agg(
        n=("positive", "size"), probability=("probability", "mean"), observed=("positive", "mean")
    )
    tests = [binomtest(round(n * share), int(n)) for n, share in zip(bins["n"], bins["observed"], strict=True)]
    limits = [test.proportion_ci(method="wilson") for test in tests]
    return bins.assign(low=[limit.low for limit in limits], high=[limit.high for limit in limits])
