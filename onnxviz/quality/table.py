"""All metrics, by name, with what they are and which way is better."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Literal

from onnxviz.quality.curves import deletion, insertion, road
from onnxviz.quality.drops import drops
from onnxviz.quality.faithfulness import faithfulness_correlation, infidelity, sensitivity_n
from onnxviz.quality.localisation import mass_inside, pointing_game
from onnxviz.quality.randomisation import parameter_randomisation, random_logit
from onnxviz.quality.robustness import max_sensitivity
from onnxviz.quality.sparseness import entropy, gini


@dataclass(frozen=True)
class Metric:
    """A metric of maps: the function, what it measures in a line, and which way is better."""

    name: str
    function: Callable[..., Any]
    definition: str
    better: Literal["higher", "lower"]
    citation: str


METRICS: Mapping[str, Metric] = MappingProxyType(
    {
        metric.name: metric
        for metric in (
            Metric(
                "deletion",
                deletion,
                "area under the probability as places go, the highest first",
                "lower",
                "Petsiuk et al. 2018, arXiv:1806.07421",
            ),
            Metric(
                "insertion",
                insertion,
                "area under the probability as places come into a blurred picture, the highest first",
                "higher",
                "Petsiuk et al. 2018, arXiv:1806.07421",
            ),
            Metric(
                "road",
                road,
                "(LeRF - MoRF) / 2: the probability with the lowest filled, less that with the highest",
                "higher",
                "Rong et al. 2022, arXiv:2202.00449",
            ),
            Metric(
                "average-drop",
                drops,
                "share of the probability lost where the map hides the picture; also average increase, gain",
                "lower",
                "Chattopadhyay et al. 2018, arXiv:1710.11063",
            ),
            Metric(
                "faithfulness-correlation",
                faithfulness_correlation,
                "correlation of the map's sum over random sets of places and the score lost without them",
                "higher",
                "Bhatt et al. 2020, arXiv:2005.00631",
            ),
            Metric(
                "sensitivity-n",
                sensitivity_n,
                "faithfulness correlation of sets of n places, for several n",
                "higher",
                "Ancona et al. 2018, arXiv:1711.06104",
            ),
            Metric(
                "infidelity",
                infidelity,
                "E (I . Phi - (f(x) - f(x - I)))^2 over noise I",
                "lower",
                "Yeh et al. 2019, arXiv:1901.09392",
            ),
            Metric(
                "max-sensitivity",
                max_sensitivity,
                "largest relative change of the map in a small cube around the picture",
                "lower",
                "Yeh et al. 2019, arXiv:1901.09392",
            ),
            Metric(
                "pointing-game",
                pointing_game,
                "whether the highest place lies on the object, or within 15 places; of equal ones, the share",
                "higher",
                "Zhang et al. 2018, arXiv:1608.00507",
            ),
            Metric(
                "mass-inside",
                mass_inside,
                "share of what is positive that lies on the object",
                "higher",
                "Kohlbrenner et al. 2020, arXiv:1910.09840",
            ),
            Metric(
                "sparseness",
                gini,
                "Gini index of the magnitudes",
                "higher",
                "Chalasani et al. 2020, arXiv:1810.06583",
            ),
            Metric(
                "complexity",
                entropy,
                "entropy of the magnitudes as shares, in nats",
                "lower",
                "Bhatt et al. 2020, arXiv:2005.00631",
            ),
            Metric(
                "parameter-randomisation",
                parameter_randomisation,
                "likeness (SSIM, rank correlation) of the map to that of a model with shuffled weights",
                "lower",
                "Adebayo et al. 2018, arXiv:1810.03292",
            ),
            Metric(
                "random-logit",
                random_logit,
                "likeness (SSIM) of the map to those of other classes",
                "lower",
                "Sixt et al. 2020, arXiv:1912.09818",
            ),
        )
    }
)
