"""Prints, by ONNX file of a folder, what ONNX Runtime computes of its network's samples, as hexadecimal float32.

Not for the reference graph.
"""

import json
import sys
from pathlib import Path

import numpy as np
import onnxruntime
from samples import read

found = {}
for path in sorted(Path(sys.argv[1]).glob("*.onnx")):
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    feeds = read(path.with_name(f"{path.name.split('.')[0]}.npz"))
    rows = [np.asarray(session.run(None, item)[0], np.float32) for item in feeds]
    found[path.stem] = np.concatenate(rows).astype("<f4").tobytes().hex()
json.dump(found, sys.stdout)
