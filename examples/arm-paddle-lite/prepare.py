"""Writes the networks of the job with random weights, and random samples to calibrate with. Downloads nothing.

python prepare.py [DIRECTORY]
"""

import sys
from pathlib import Path

import numpy as np
import paddle

NETWORKS = ("mobilenet_v1", "mobilenet_v2")
"""The architectures of the reference's table, as paddle.vision has them."""
SHAPE = (3, 224, 224)
SAMPLES = 8
SEED = 20


def main(root: Path) -> None:
    """Write what is not there yet."""
    for name in NETWORKS:
        directory = root / name
        if (directory / "inference.pdiparams").exists():
            continue
        print(f"writing {name}", flush=True)
        paddle.seed(SEED)
        network = getattr(paddle.vision.models, name)()
        network.eval()
        spec = [paddle.static.InputSpec([None, *SHAPE], "float32", "x")]
        with paddle.pir_utils.DygraphOldIrGuard():
            paddle.jit.save(network, str(directory / "inference"), input_spec=spec)
    random = np.random.default_rng(SEED)
    (root / "images").mkdir(parents=True, exist_ok=True)
    for index in range(SAMPLES):
        np.save(root / "images" / f"{index}.npy", random.standard_normal(SHAPE).astype(np.float32))


if __name__ == "__main__":
    main(Path(sys.argv[1]) if sys.argv[1:] else Path(__file__).parent / "data")
