"""Documents of audits made by hand: every part is there, and every figure is one a test can look for."""

import copy
import math

from onnxviz.auditing.findings import CODES, SEVERITIES

HOSTILE = "</script><script>document.title='taken'</script><img src=x onerror=\"document.title='taken'\">"


def finding(code, severity, layer=None, channel=None, value=None, detail="Something was found."):
    return {
        "code": code,
        "severity": severity,
        "layer": layer,
        "channel": channel,
        "value": value,
        "detail": detail,
    }


def identity(path="models/audited.onnx", digit="a"):
    shape = ["batch", 3, 224, 224]
    return {
        "path": path,
        "sha256": digit * 64,
        "bytes": 4_956_208,
        "ir_version": 10,
        "opset": {"ai.onnx": 17},
        "producer": "pytorch 2.6.0",
        "operators": {"Conv": 26, "Relu": 26},
        "domains": [],
        "inputs": [{"name": "image", "dtype": "float32", "shape": shape}],
        "outputs": [{"name": "scores", "dtype": "float32", "shape": ["batch", 1000]}],
        "parameters": 1_235_496,
        "macs": 349_000_000,
        "quantisation": {
            "scheme": "QDQ",
            "weights": ["int8"],
            "activations": ["uint8"],
            "per_channel": True,
        },
        "licences": [],
        "metadata": {"author": "nobody"},
        "versions": {"onnx": "1.19.0", "onnxruntime": "1.23.0"},
        "device": "cpu",
    }


def health_layer(name, channels=20, flags=None, told=True):
    """A layer's health; `flags` are the flags of channels by their numbers."""
    flags = flags or {}
    kinds = ("dead", "constant", "duplicate", "saturated", "nan", "infinite", "denormal")
    return {
        "name": name,
        "op": "Conv",
        "tensor": f"{name}_out",
        "channels": channels,
        **{kind: sum(kind in of for of in flags.values()) for kind in kinds},
        "low": -1.5,
        "high": 6.25,
        "range": {"low": 0.0, "high": 6.0, "used": 0.91, "clipped": 0.002},
        "weights": {
            "count": 27 * channels,
            "zero": 0.01,
            "nan": 0,
            "infinite": 0,
            "denormal": 0,
            "outliers": 2,
            "clipped": None,
            "lowest": -0.8,
            "highest": 0.7,
        },
        "inherited": [],
        "by_channel": [
            {
                "channel": number,
                "low": 0.0,
                "high": 0.0 if "dead" in flags.get(number, ()) else 1.0 + number / 8,
                "mean": None if "nan" in flags.get(number, ()) else number / 16,
                "flags": list(flags.get(number, ())),
            }
            for number in range(channels if told else 0)
        ],
    }


def matched_layer(name, level, own, reference=None):
    """A matched layer whose levels, in dB, are `level` and `own`."""
    error = None if level is None else 10 ** (-level / 20)
    return {
        "name": name,
        "reference": reference or name,
        "op": "Conv",
        "reference_op": "Conv",
        "tensor": f"{name}_out",
        "reference_tensor": f"{reference or name}_out",
        "matched_by": "numbers",
        "match": 0.999,
        "quantised": True,
        "cosine": None if error is None else math.sqrt(max(0.0, 1 - error**2)),
        "sqnr_db": level,
        "relative_l2": error,
        "accumulated_error": error,
        "own_error": None if own is None else 10 ** (-own / 20),
        "own_sqnr_db": own,
        "gain": 1.0,
        "noise_db": 200.0,
        "worst_channels": [
            {"channel": 7, "sqnr_db": 3.5, "relative_l2": 0.668},
            {"channel": 2, "sqnr_db": None, "relative_l2": None},
        ],
    }


def spread(least, median, greatest):
    return {
        "mean": median,
        "median": median,
        "least": least,
        "greatest": greatest,
        "p5": least,
        "p95": greatest,
    }


def quiet():
    """A document in which only the file was looked at: no pictures, no reference, nothing found."""
    return {
        "schema": "onnxviz-audit/1",
        "verdict": "pass",
        "reasons": [],
        "gates": [],
        "counts": counts([]),
        "findings": [],
        "identity": identity(),
        "reference": None,
        "structure": {
            "nodes": 66,
            "optimised_nodes": 40,
            "optimised": {"FusedConv": 26, "Concat": 8},
            "providers": {"CPUExecutionProvider": 40},
            "fallback": [],
            "external_data": [],
        },
        "pictures": None,
        "preprocessing": None,
        "health": None,
        "agreement": None,
        "layers": [],
        "first_break": None,
        "lowest": [],
        "unmatched": {"audited": [], "reference": []},
        "drift": None,
        "faithfulness": None,
        "sanity": None,
        "baseline": None,
        "passes": {"audited": {"total": 0}, "reference": {"total": 0}, "explanations": 0},
        "seconds": {"total": 0.5},
        "settings": {"device": "cpu"},
        "warnings": [],
    }


def counts(findings):
    levels = {level: sum(one["severity"] == level for one in findings) for level in SEVERITIES}
    return levels | {code: sum(one["code"] == code for one in findings) for code in CODES}


def full():
    """A document in which every part was measured, and the file fails."""
    findings = [
        finding("layer-diverges", "error", "fire3", None, 8.0, "It computes otherwise: 8.0 dB alone."),
        finding("batchnorm-fold", "error", "fire2", 7, 0.31, "The fold changed the sign of channel 7."),
        finding("dead-channel", "warning", "fire3", 4, 0.0, "Channel 4 is dead."),
        finding("opset-age", "info", None, None, 17.0, "The operator set is 17; 23 is current."),
    ]
    preprocess = {"color": "rgb", "scale": 255.0, "mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225]}
    variant = {"confidence": 0.71, "entropy": 1.1, "accuracy": 0.8, "agreement": 0.9375, "kl": 0.042}
    noise = {"top1": 1.0, "top5": 1.0, "mean_abs": 0.0, "relative_l2": 0.0, "kl": 2e-9, "max_abs": 1e-6}
    gate = {"path": "agreement.top1", "value": 0.9375, "severity": "error"}
    return {
        **quiet(),
        "verdict": "fail",
        "reasons": ["The gate agreement.top1<0.98 fails: 0.938.", "fire3 computes otherwise: 8.0 dB alone."],
        "gates": [
            gate | {"gate": "identity.quantisation.scheme!=QDQ", "path": "identity.quantisation.scheme",
                    "value": "QDQ", "holds": True, "detail": "It is QDQ."},
            gate | {"gate": "agreement.top1<0.98", "holds": False, "detail": "agreement.top1 is 0.938."},
            gate | {"gate": "agreement.kl>0.1", "path": "agreement.kl", "value": 0.042, "holds": True,
                    "detail": "agreement.kl is 0.042."},
            gate | {"gate": "drift.iou.median<0.5", "path": "drift.iou.median", "value": None, "holds": False,
                    "severity": "warning", "detail": "drift.iou.median was not measured."},
        ],
        "counts": counts(findings),
        "findings": findings,
        "reference": identity("models/reference.onnx", "b"),
        "pictures": {
            "count": 64,
            "labelled": 10,
            "failed": [{"number": 64, "name": "broken.png", "reason": "broken.png is not a picture"}],
        },
        "preprocessing": {
            "in_use": preprocess | {"source": "the model's metadata"},
            "reference": preprocess | {"source": "the model's metadata"},
            "pictures": 16,
            "variants": [
                variant | {"name": "as given", "preprocess": preprocess, "in_use": True},
                variant | {"name": "BGR", "preprocess": preprocess, "in_use": False,
                           "agreement": 0.5, "kl": None},
            ],
        },
        "health": {
            "layers": [
                health_layer("conv1"),
                health_layer("fire2", flags={7: ["saturated"]}),
                health_layer("fire3", 250, {240: ["dead"], 4: ["dead", "duplicate"], 9: ["nan"]}),
                health_layer("fire9", 5000, {3: ["dead"]}, told=False),
            ]
        },
        "agreement": {
            "pictures": 64,
            "top1": 0.9375,
            "top5": 0.981,
            "kl": 0.042,
            "kl_max": 0.61,
            "max_abs": 3.2,
            "mean_abs": 0.113,
            "cosine": 0.9971,
            "relative_l2": 0.081,
            "accuracy": 0.8,
            "reference_accuracy": 0.9,
            "flips": [
                {"picture": "cat.png", "number": 3, "reference": 285, "reference_label": "Egyptian cat",
                 "audited": 281, "audited_label": "tabby", "margin": 0.31, "probability": 0.62}
            ],
            "flip_count": 4,
            "worst": [{"picture": "dog.png", "number": 9, "kl": 0.61, "max_abs": 3.2}],
            "outputs": {
                name: {"reference": name, "max_abs": 3.2, "mean_abs": 0.11, "relative_l2": 0.08,
                       "sqnr_db": 21.9, "cosine": 0.997, "noise_max_abs": 1e-6}
                for name in ("scores", "features")
            },
            "noise": noise | {"pictures": 8},
        },
        "layers": [
            matched_layer("conv1", 102.5, 104.0),
            matched_layer("fire2", 31.0, 33.0),
            matched_layer("fire3", 8.0, 9.0, "features.4.squeeze"),
            matched_layer("fire4", None, None),
        ],
        "first_break": "fire3",
        "lowest": ["fire3", "fire2", "conv1"],
        "unmatched": {"audited": [], "reference": ["dropout"]},
        "drift": {
            "method": "grad-cam",
            "layer": "fire3",
            "reference_layer": "features.4.squeeze",
            "pictures": 8,
            "empty": 1,
            "spearman": spread(0.41, 0.87, 0.99),
            "ssim": spread(0.52, 0.9, 0.98),
            "iou": spread(0.2, 0.7, 0.95),
            "centre_shift": spread(0.001, 0.02, 0.21),
            "noise": {"spearman": 1.0, "ssim": 1.0, "iou": 1.0, "centre_shift": 0.0},
            "worst": [
                {"picture": "cat.png", "number": 3, "target": "Egyptian cat", "spearman": 0.41, "ssim": 0.52,
                 "iou": 0.2, "centre_shift": 0.21, "image": "drift-0.png"},
                {"picture": "cup.png", "number": 5, "target": "cup", "spearman": None, "ssim": None,
                 "iou": None, "centre_shift": None, "image": None},
            ],
        },
        "faithfulness": {"method": "grad-cam", "pictures": 8, "insertion": 0.52, "insertion_random": 0.31,
                         "deletion": 0.12, "deletion_random": 0.2, "better": 0.875},
        "sanity": {
            "randomisation": {
                "method": "grad-cam",
                "ssim": 0.18,
                "rank_correlation": 0.07,
                "layers": [{"layer": "fire9", "ssim": 0.6, "rank_correlation": 0.5}],
            },
            "gradient": {"of": "scores", "wrt": "image", "directional": 1.234, "numeric": 1.235,
                         "relative_error": 8.1e-4, "rules": None, "applies": True},
        },
        "baseline": {
            "path": "audits/last/audit.json",
            "sha256": "c" * 64,
            "same_model": False,
            "new": [findings[2]],
            "gone": [finding("saturated", "warning", "conv1", 3)],
            "changes": [
                {"path": "agreement.top1", "before": 0.99, "now": 0.9375, "worse": True},
                {"path": "agreement.kl", "before": None, "now": 0.042, "worse": None},
            ],
        },
        "passes": {"audited": {"total": 300}, "reference": {"total": 200}, "explanations": 40},
        "seconds": {"total": 12.5},
        "warnings": ["8 pictures were repeated for the noise floor."],
    }  # fmt: skip


def health_only():
    """The full document without a reference: channels alone were looked at."""
    alone = ("reference", "agreement", "drift", "baseline")
    return {
        **full(),
        **dict.fromkeys(alone),
        "layers": [],
        "first_break": None,
        "lowest": [],
        "unmatched": {"audited": [], "reference": []},
    }


def hostile():
    """The full document, in which every name and sentence that a file can choose wants to be markup."""

    def spoilt(value, key=None):
        if isinstance(value, dict):
            return {inner: spoilt(each, inner) for inner, each in value.items()}
        if isinstance(value, list):
            return [spoilt(each, key) for each in value]
        chosen = ("path", "name", "layer", "reference", "op", "reference_op", "tensor", "picture", "target",
                  "detail", "reference_layer", "reference_label", "audited_label", "producer", "author",
                  "reasons", "warnings", "lowest", "first_break", "licences", "gate", "reason")  # fmt: skip
        return f"{value}{HOSTILE}" if isinstance(value, str) and key in chosen else value

    return spoilt(copy.deepcopy(full()))


def large(layers=500, channels=2000):
    """As many layers and channels as large models have."""
    names = [f"stage.{number}.conv" for number in range(layers)]
    return {
        **full(),
        "layers": [matched_layer(name, 20.0 + place % 60, 50.0) for place, name in enumerate(names)],
        "health": {"layers": [health_layer(name, channels, {3: ["dead"]}) for name in names]},
    }
