#!/usr/bin/env python3
"""A forecast made without us: scikit-learn, exported by skl2onnx, with the least card that the contract asks for.

    pip install numpy scikit-learn skl2onnx onnx
    tidegate train forecast --list-inputs            # the inputs, and the SHA-256 that the card names
    python3 make.py INPUTS_SHA256 counts.csv         # writes sklearn.onnx and sklearn.json beside itself

Without a CSV it learns from a made-up week. Only the 59 counts before are looked at; the other inputs are given weight 0.
"""
import csv, hashlib, json, pathlib, sys

import numpy as np
import onnx
from skl2onnx import convert_sklearn
from skl2onnx.common.data_types import FloatTensorType
from sklearn.neural_network import MLPRegressor

LAGS, INPUTS, HORIZONS = 59, 80, [1, 5, 10]


def counts(argv):
    if len(argv) > 2:
        with open(argv[2], newline="") as f:
            return np.array([float(row[1]) for row in list(csv.reader(f))[1:]])
    rng = np.random.default_rng(1)
    t = np.arange(7 * 1440)
    return rng.poisson(100 + 80 * np.sin(t / 1440 * 2 * np.pi))


def main(argv):
    z = np.log1p(counts(argv))
    rows = range(LAGS, len(z) - max(HORIZONS))
    x = np.zeros((len(rows), INPUTS), dtype=np.float32)
    for i, t in enumerate(rows):
        x[i, :LAGS] = z[t - 1 : t - LAGS - 1 : -1] - z[t] if t > LAGS else z[t - 1 :: -1][:LAGS] - z[t]
    y = np.stack([[z[t + h] - z[t] for h in HORIZONS] for t in rows])
    model = MLPRegressor(hidden_layer_sizes=(16,), alpha=1e-2, max_iter=30, random_state=1).fit(x, y)

    graph = convert_sklearn(model, initial_types=[("features", FloatTensorType([None, INPUTS]))], target_opset=17)
    # The contract wants the batch dimension to have a name.
    graph.graph.input[0].type.tensor_type.shape.dim[0].dim_param = "n"
    out = pathlib.Path(__file__).parent
    data = graph.SerializeToString()
    onnx.checker.check_model(graph)
    (out / "sklearn.onnx").write_bytes(data)
    card = {
        "kind": "forecast",
        "name": "scikit-learn MLPRegressor, made by make.py",
        "model_sha256": hashlib.sha256(data).hexdigest(),
        "inputs_sha256": argv[1],
        "horizons": HORIZONS,
        "quantiles": [0.5],
    }
    (out / "sklearn.json").write_text(json.dumps(card, indent=2) + "\n")


if __name__ == "__main__":
    main(sys.argv)
