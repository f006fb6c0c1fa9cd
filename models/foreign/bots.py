#!/usr/bin/env python3
"""Bot models made without us: scikit-learn (a forest, a support-vector machine), LightGBM and PyTorch, through their own
exporters, with the least card that the contract asks for.

    pip install numpy scikit-learn skl2onnx lightgbm onnxmltools onnx torch onnxscript
    tidegate train bots --from worlds:4 --to-table visits.csv     # or your journal and labels
    tidegate train bots --list-features | tail -1                 # the SHA-256 that the card names
    python3 bots.py FEATURES_SHA256 visits.csv                    # writes bots-*.onnx and cards beside itself
    tidegate evaluate bots models/foreign/bots-lightgbm.onnx worlds:4@9

They are small on purpose. bots-expected.json holds rows and what each library itself says about them.
"""
import csv, hashlib, json, pathlib, sys, warnings

import lightgbm
import numpy as np
import onnx
import onnxmltools
import torch
from onnxmltools.convert.common.data_types import FloatTensorType as LightGbmFloats
from skl2onnx import convert_sklearn
from skl2onnx.common.data_types import FloatTensorType
from sklearn.calibration import CalibratedClassifierCV
from sklearn.ensemble import RandomForestClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC

OTHERS = {"label", "site", "family", "network", "visitor", "visit", "weight"}
OUT = pathlib.Path(__file__).parent


def visits(path):
    with open(path, newline="") as f:
        rows = list(csv.DictReader(f))
    names = [n for n in rows[0] if n not in OTHERS]
    x = np.array([[float(r[n]) for n in names] for r in rows], dtype=np.float32)
    return x, np.array([r["label"] == "program" for r in rows], dtype=np.int64)


def name_the_batch(graph):
    """The contract wants the batch dimension of the input to have a name; some exporters leave it out."""
    for value in list(graph.graph.input) + list(graph.graph.output):
        dims = value.type.tensor_type.shape.dim
        if len(dims) and not dims[0].dim_param:
            dims[0].Clear()
            dims[0].dim_param = "n"
    return graph


def write(name, graph, features_sha256, how):
    onnx.checker.check_model(graph)
    data = graph.SerializeToString()
    (OUT / f"{name}.onnx").write_bytes(data)
    card = {
        "name": f"{how}, made by bots.py",
        "model_sha256": hashlib.sha256(data).hexdigest(),
        "features_sha256": features_sha256,
    }
    (OUT / f"{name}.json").write_text(json.dumps(card, indent=2) + "\n")


def net(x, y):
    torch.manual_seed(1)
    mean, deviation = torch.tensor(x.mean(0)), torch.tensor(x.std(0).clip(0.1))

    class Net(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.layers = torch.nn.Sequential(torch.nn.Linear(x.shape[1], 12), torch.nn.ReLU(), torch.nn.Linear(12, 1))

        def forward(self, features):
            return torch.sigmoid(self.layers((features - mean) / deviation))

    model, inputs, wanted = Net(), torch.tensor(x), torch.tensor(y, dtype=torch.float32)[:, None]
    optimiser = torch.optim.Adam(model.parameters(), lr=0.01)
    for _ in range(150):
        optimiser.zero_grad()
        torch.nn.functional.binary_cross_entropy(model(inputs), wanted).backward()
        optimiser.step()
    return model.eval()


def main(argv):
    sha, (x, y) = argv[1], visits(argv[2])
    floats = [("features", FloatTensorType([None, x.shape[1]]))]
    few = np.random.default_rng(1).permutation(len(x))
    rows, said = x[few[:40]], {}

    forest = RandomForestClassifier(8, max_depth=5, random_state=1, class_weight="balanced").fit(x, y)
    options = {id(forest): {"zipmap": False}}
    write("bots-forest", name_the_batch(convert_sklearn(forest, initial_types=floats, options=options, target_opset=17)), sha, "scikit-learn RandomForestClassifier")
    said["bots-forest"] = forest.predict_proba(rows)[:, 1]

    machine = make_pipeline(StandardScaler(), CalibratedClassifierCV(SVC(C=1.0), cv=2, ensemble=False)).fit(x[few[:160]], y[few[:160]])
    options = {id(machine): {"zipmap": False}}
    write("bots-svm", name_the_batch(convert_sklearn(machine, initial_types=floats, options=options, target_opset=17)), sha, "scikit-learn SVC, calibrated")
    said["bots-svm"] = machine.predict_proba(rows)[:, 1]

    boosted = lightgbm.LGBMClassifier(n_estimators=12, num_leaves=8, verbose=-1, random_state=1, n_jobs=1).fit(x, y)
    graph = onnxmltools.convert_lightgbm(boosted, initial_types=[("features", LightGbmFloats([None, x.shape[1]]))], zipmap=False, target_opset=15)
    write("bots-lightgbm", name_the_batch(graph), sha, "LightGBM LGBMClassifier")
    said["bots-lightgbm"] = boosted.predict_proba(rows)[:, 1]

    model = net(x, y)
    exported = torch.onnx.export(
        model, (torch.tensor(x[:2]),), input_names=["features"], output_names=["score"],
        dynamic_shapes=({0: torch.export.Dim("n")},), dynamo=True, external_data=False, verbose=False,
    ).model_proto
    del exported.metadata_props[:]
    for node in exported.graph.node:
        del node.metadata_props[:]
    write("bots-torch", name_the_batch(exported), sha, "PyTorch net")
    with torch.no_grad():
        said["bots-torch"] = model(torch.tensor(rows))[:, 0].numpy()

    expected = {"rows": [[float(v) for v in r] for r in rows], "said": {k: [float(p) for p in v] for k, v in said.items()}}
    (OUT / "bots-expected.json").write_text(json.dumps(expected) + "\n")


if __name__ == "__main__":
    warnings.filterwarnings("ignore")
    main(sys.argv)
