"""The methods against captum, grad-cam, torchcam and zennit, whose answers scripts/peers.py froze."""

from pathlib import Path

import numpy as np
import pytest

from onnxviz import explain, gradient, load
from onnxviz.autodiff.lrp import epsilon_gamma_box
from onnxviz.runtime.session import Session

DATA = Path(__file__).parents[1] / "data" / "peers"
NETWORKS = ("pooled", "dense")
FROZEN = {name: dict(np.load(DATA / f"{name}.npz")) for name in NETWORKS}


def found(network, method, target, layer=None, **settings):
    return explain(DATA / f"{network}.onnx", FROZEN[network]["x"], method, target, layer, **settings)


def close(given, expected, rtol=1e-4):
    np.testing.assert_allclose(given, expected, rtol=rtol, atol=rtol * np.abs(expected).max())


def asked(peer, *methods):
    """The answers of a peer: the network, the method, where, and the class."""
    return [
        (network, *key.split("/"))
        for network in NETWORKS
        for key in FROZEN[network]
        if key.count("/") == 3 and key.split("/")[1] == peer and (not methods or key.split("/")[0] in methods)
    ]


PIXELS = ("gradient", "input-x-gradient", "guided-backprop", "deconvnet")


@pytest.mark.parametrize(("network", "method", "peer", "at", "target"), asked("captum", *PIXELS))
def test_gradients_are_captum_s(network, method, peer, at, target):
    close(found(network, method, int(target)).raw, FROZEN[network][f"{method}/{peer}/{at}/{target}"])


@pytest.mark.parametrize("network", NETWORKS)
@pytest.mark.parametrize("target", [1, 3])
def test_integrated_gradients_are_captum_s(network, target):
    frozen = FROZEN[network]
    own = found(network, "integrated-gradients", target, steps=20, baseline="zero")
    close(own.raw, frozen[f"integrated-gradients/captum/x/{target}"])
    delta = [one.checks["delta"] for one in own.evidence]
    expected = np.abs(frozen[f"integrated-gradients-delta/captum/x/{target}"])
    np.testing.assert_allclose(delta, expected, atol=1e-5)


@pytest.mark.parametrize("target", [1, 3])
def test_multipliers_are_captum_s_and_add_up_where_captum_s_do_not(target):
    start = {"baseline": "zero"}
    expected = FROZEN["dense"][f"deeplift/captum/x/{target}"]
    close(found("dense", "deeplift", target, **start).raw, expected)
    own = found("pooled", "deeplift", target, **start)
    theirs = FROZEN["pooled"][f"deeplift/captum/x/{target}"].sum(axis=(1, 2, 3))
    differences = np.array([one.checks["difference"] for one in own.evidence])
    np.testing.assert_allclose(own.raw.sum(axis=(1, 2, 3)), differences, rtol=1e-4)
    assert np.abs(theirs - differences).max() > 0.03 * np.abs(differences).max()


@pytest.mark.parametrize("network", NETWORKS)
@pytest.mark.parametrize("target", [1, 3])
def test_occlusion_is_captum_s(network, target):
    own = found(network, "occlusion", target, window=5, stride=3, baseline="zero")
    close(own.raw, FROZEN[network][f"occlusion/captum/x/{target}"])


@pytest.mark.parametrize("network", NETWORKS)
@pytest.mark.parametrize("target", [1, 3])
def test_exact_shapley_values_are_captum_s(network, target):
    own = found(network, "kernel-shap", target, segmentation="grid", pieces=4, baseline="zero", samples=14)
    close(own.raw, FROZEN[network][f"shapley/captum/x/{target}"])


SAME = ("grad-cam", "xgrad-cam", "hires-cam", "element-wise", "layer-cam")


@pytest.mark.parametrize(
    ("network", "method", "peer", "at", "target"), asked("grad-cam", *SAME) + asked("torchcam")
)
def test_cams_are_those_of_grad_cam_and_torchcam(network, method, peer, at, target):
    expected = FROZEN[network][f"{method}/{peer}/{at}/{target}"]
    settings = {"baseline": "zero"} if method == "score-cam" else {}
    own = found(network, method, int(target), at, **settings).raw
    own = np.maximum(own, 0) if peer == "torchcam" else own  # which rectifies its maps
    if (
        method == "score-cam"
    ):  # the peer scales the masks before it enlarges them, and lets dead channels share
        own, expected = (maps / maps.max(axis=(1, 2), keepdims=True) for maps in (own, expected))
    close(own, expected, rtol=5e-3 if method == "score-cam" else 1e-4)


@pytest.mark.parametrize(
    ("network", "method", "peer", "at", "target"), asked("grad-cam", "eigen-cam", "eigen-grad-cam")
)
def test_eigen_cams_are_grad_cam_s_but_for_the_sign(network, method, peer, at, target):
    own, expected = (
        found(network, method, int(target), at).raw,
        FROZEN[network][f"{method}/{peer}/{at}/{target}"],
    )
    for one, other in zip(own, expected, strict=True):
        sign = np.sign((one * other).sum())
        close(one, sign * other)


@pytest.mark.parametrize(("network", "method", "peer", "at", "target"), asked("grad-cam", "ablation-cam"))
def test_ablation_cam_is_grad_cam_s_where_the_score_is_positive(network, method, peer, at, target):
    """Where it is negative the peer's weights change their sign, and ours do not."""
    frozen, own = FROZEN[network], found(network, method, int(target), at)
    signs = np.sign(frozen["logits"][:, int(target)])
    expected = frozen[f"{method}/{peer}/{at}/{target}"] * signs[:, None, None]
    close(own.raw, expected, rtol=1e-3)


RELEVANCE = ("lrp-epsilon-plus", "lrp-epsilon-alpha2-beta1", "excitation-backprop")


@pytest.mark.parametrize(("network", "method", "peer", "at", "target"), asked("zennit", *RELEVANCE))
def test_relevance_is_zennit_s(network, method, peer, at, target):
    close(
        found(network, method, int(target)).raw, FROZEN[network][f"{method}/{peer}/{at}/{target}"], rtol=1e-3
    )


@pytest.mark.parametrize("network", NETWORKS)
@pytest.mark.parametrize("target", [1, 3])
def test_the_box_of_zennit(network, target):
    frozen = FROZEN[network]
    rules = epsilon_gamma_box(np.full((1, 3, 1, 1), -6.0), np.full((1, 3, 1, 1), 6.0))
    model = gradient(load(DATA / f"{network}.onnx"), of="logits", wrt="x", rules=rules)
    seed = np.zeros_like(frozen["logits"])
    seed[:, target] = frozen["logits"][:, target]
    own = Session(model).run({"x": frozen["x"], "logits_grad": seed})["x_grad"]
    close(own, frozen[f"lrp-epsilon-gamma-box/zennit/x/{target}"], rtol=1e-3)
