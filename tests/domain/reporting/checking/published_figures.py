"""Figures that projects published, in tables of our own: every row's speed-up and latencies are as printed there."""

from collections.abc import Sequence

HEADER = ("Network", "Engine", "Hardware", "FP32", "INT8", "INT8 + FP16", "INT8+FP16+PM", "Max speed-up", "Method")
PREAMBLE = (
    "Latencies are means of 1000 runs in milliseconds. The max speed-up is FP32 divided by the fastest INT8 latency.",
)

# network, engine, hardware, FP32, INT8, INT8+FP16, INT8+FP16+PM, speed-up
DETECTION_RUNTIME = """
[YOLOv5s](../a/b/) | TensorRT | GPU | 7.87 | 4.51 | 4.31 | 3.17 | 2.48
[YOLOv5s](../a/b/) | Paddle-TensorRT | GPU | 7.99 | None | 4.46 | 3.31 | 2.41
[YOLOv5s](../a/b/) | ONNX Runtime | CPU | 176.41 | 91.90 | None | None | 1.90
[YOLOv5s](../a/b/) | Paddle Inference| CPU | 213.73 | 130.19 | None | None | 1.64
[YOLOv6s](../a/b/ ) | TensorRT | GPU | 9.47 | 3.23 | 4.09 |2.81 | 3.37
[YOLOv6s](../a/b/ ) | Paddle-TensorRT | GPU | 9.31 | None| 4.17 | 2.95 | 3.16
[YOLOv6s](../a/b/ ) | ONNX Runtime | CPU | 334.65 | 126.38 | None | None| 2.65
[YOLOv6s](../a/b/ ) | Paddle Inference | CPU | 352.87 | 123.12 |None | None| 2.87
[YOLOv7](../a/b/) | TensorRT | GPU | 27.47 | 6.52 | 6.74| 5.19| 5.29
[YOLOv7](../a/b/) | Paddle-TensorRT | GPU | 27.87|None|6.91|5.86 | 4.76
[YOLOv7](../a/b/) | ONNX Runtime | CPU | 996.65 | 467.15 |None|None | 2.13
[YOLOv7](../a/b/) | Paddle Inference | CPU | 995.85 | 477.93|None|None | 2.08
"""
DETECTION_END2END = """
[YOLOv5s](../a/b/) | TensorRT | GPU | 24.61 | 21.20 | 20.78 | 20.94 | 1.18
[YOLOv5s](../a/b/) | Paddle-TensorRT | GPU | 23.53 | None | 21.98 | 19.84 | 1.28
[YOLOv5s](../a/b/) | ONNX Runtime | CPU | 197.323 | 110.99 | None | None | 1.78
[YOLOv5s](../a/b/) | Paddle Inference| CPU | 235.73 | 144.82 | None | None | 1.63
[YOLOv6s](../a/b/ ) | TensorRT | GPU | 15.66 | 11.30 | 10.25 |9.59 | 1.63
[YOLOv6s](../a/b/ ) | Paddle-TensorRT | GPU | 15.03 | None| 11.36 | 9.32 | 1.61
[YOLOv6s](../a/b/ ) | ONNX Runtime | CPU | 348.21 | 126.38 | None | None| 2.82
[YOLOv6s](../a/b/ ) | Paddle Inference | CPU | 352.87 | 121.64 |None | None| 3.04
[YOLOv7](../a/b/) | TensorRT | GPU | 36.47 | 18.81 | 20.33| 17.58| 2.07
[YOLOv7](../a/b/) | Paddle-TensorRT | GPU | 37.06|None|20.26|17.53 | 2.11
[YOLOv7](../a/b/) | ONNX Runtime | CPU | 988.85 | 478.08 |None|None | 2.07
[YOLOv7](../a/b/) | Paddle Inference | CPU | 1031.73 | 500.12|None|None | 2.06
"""
CLASSIFICATION_RUNTIME = """
ResNet50_vd | TensorRT | GPU | 3.55 | 0.99|0.98|1.06 | 3.62
ResNet50_vd | Paddle-TensorRT | GPU | 3.46 |None |0.87|1.03 | 3.98
ResNet50_vd | ONNX Runtime | CPU | 76.14 | 35.43 |None|None | 2.15
ResNet50_vd | Paddle Inference | CPU | 76.21 | 24.01 |None|None | 3.17
MobileNetV1_ssld | TensorRT | GPU | 0.91 | 0.43 |0.49 | 0.54 | 2.12
MobileNetV1_ssld | Paddle-TensorRT | GPU | 0.88| None| 0.49|0.51 | 1.80
MobileNetV1_ssld | ONNX Runtime | CPU | 30.53 | 9.59|None|None | 3.18
MobileNetV1_ssld | Paddle Inference | CPU | 12.29 | 4.68 | None|None|2.62
"""
CLASSIFICATION_END2END = """
ResNet50_vd | TensorRT | GPU | 4.92| 2.28|2.24|2.23 | 2.21
ResNet50_vd | Paddle-TensorRT | GPU | 4.48|None |2.09|2.10 | 2.14
ResNet50_vd | ONNX Runtime | CPU | 77.43 | 41.90 |None|None | 1.85
ResNet50_vd | Paddle Inference | CPU | 80.60 | 27.75 |None|None | 2.90
MobileNetV1_ssld | TensorRT | GPU | 2.19 | 1.48|1.57| 1.57 | 1.48
MobileNetV1_ssld | Paddle-TensorRT | GPU | 2.04| None| 1.47|1.45 | 1.41
MobileNetV1_ssld | ONNX Runtime | CPU | 34.02 | 12.97|None|None | 2.62
MobileNetV1_ssld | Paddle Inference | CPU | 16.31 | 7.42 | None|None| 2.20
"""
LARGE_RUNTIME = """
ppyoloe_crn_l_300e_coco | TensorRT | GPU | 27.90 | 6.39 |6.44|5.95 | 4.67
ppyoloe_crn_l_300e_coco | Paddle-TensorRT | GPU | 30.89 |None | 13.78 |14.01 | 2.24
ppyoloe_crn_l_300e_coco | ONNX Runtime | CPU | 1057.82 | 449.52 |None|None | 2.35
"""
LARGE_END2END = """
ppyoloe_crn_l_300e_coco | TensorRT | GPU | 35.75 | 15.42 |20.70|20.85 | 2.32
ppyoloe_crn_l_300e_coco | Paddle-TensorRT | GPU | 33.48 |None | 18.47 |18.03 | 1.81
ppyoloe_crn_l_300e_coco | ONNX Runtime | CPU | 1067.17 | 461.037 |None|None | 2.31
"""
SEGMENTATION_RUNTIME = "PP-LiteSeg-T(STDC1) | Paddle Inference | CPU | 1138.04| 602.62 |None|None | 1.89"
SEGMENTATION_END2END = "PP-LiteSeg-T(STDC1) | Paddle Inference | CPU | 4726.65| 4134.91|None|None | 1.14"

FAMILIES = (
    ("Detectors", DETECTION_RUNTIME, DETECTION_END2END),
    ("Classifiers", CLASSIFICATION_RUNTIME, CLASSIFICATION_END2END),
    ("Large detectors", LARGE_RUNTIME, LARGE_END2END),
    ("Segmentation", SEGMENTATION_RUNTIME, SEGMENTATION_END2END),
)

QUANTIZATION_AWARE = """\
All 500 validation pictures, batch 1, mean.

Network | Kind | mIoU | Latency (s/img) | Speed-up of quantization |
---|---|---|---|---|
ANN | FP32 | 0.7909 | 0.281 | - |
ANN | INT8 | 0.7906 | 0.195 | 30.6% |
DANet | FP32 | 0.8027 | 0.330 | - |
DANet | INT8 | 0.8039 | 0.266 | 19.4% |
DeepLabV3P | FP32 | 0.8036 | 0.206 | - |
DeepLabV3P | INT8 | 0.8044 | 0.083 | 59.7% |
DNLNet | FP32 | 0.7995 | 0.360 | - |
DNLNet | INT8 | 0.7989 | 0.236 | 52.5% |
EMANet | FP32 | 0.7905 | 0.186 | - |
EMANet | INT8 | 0.7939 | 0.106 | 43.0% |
GCNet | FP32 | 0.7950 | 0.228 | - |
GCNet | INT8 | 0.7959 | 0.144 | 36.8% |
PSPNet | FP32 | 0.7883 | 0.324 | - |
PSPNet | INT8 | 0.7915 | 0.223 | 32.1% |
What follows has no pipe and is text.
"""

ON_XEON = """\
Means of 1000 runs.

**Top-1 and Top-5 on a Xeon 6271**

| Network | FP32 Top1 Accuracy | INT8 Top1 Accuracy | Top1 Diff | FP32 Top5 Accuracy | INT8 Top5 Accuracy | Top5 Diff |
|:---:|:---:|:---:|:---:|:---:|:---:|:---:|
| MobileNet-V1 | 70.78% | 70.74% | -0.04% | 89.69% | 89.43% | -0.26% |
| MobileNet-V2 | 71.90% | 72.21% | 0.31% | 90.56% | 90.62% | 0.06% |
| ResNet50 | 76.63% | 76.50% | -0.13% | 93.10% | 92.98% | -0.12% |
| VGG16 | 72.08% | 71.74% | -0.34% | 90.63% | 89.71% | -0.92% |

**Speed on one core**

| Network | FP32 (images/s) | INT8 (images/s) | Ratio (INT8/FP32) |
|:---:|:---:|:---:|:---:|
| MobileNet-V1 | 74.05 | 216.36 | 2.92 |
| MobileNet-V2 | 88.60 | 205.84 | 2.32 |
| ResNet101 | 7.20 | 26.48 | 3.68 |
| ResNet50 | 13.23 | 50.02 | 3.78 |
| VGG16 | 3.47 | 10.67 | 3.07 |
| VGG19 | 2.83 | 9.09 | 3.21 |

**Latency of one sample**

| Threads | FP32 Latency (ms) | INT8 Latency (ms) | Ratio (FP32/INT8) |
| :---: | :---: | :---: | :---: |
| 1 thread | 237.21 | 79.26 | 2.99X |
| 20 threads | 22.08 | 12.57 | 1.76X |

**On a phone**

| a phone | armv7(ms) | armv7(ms) | armv8(ms) | armv8(ms) |
|:---:|:---:|:---:|:---:|:---:|
| threads | 1 | 2 | 1 | 2 |
| mobilenet_v1_fp32 | 32.19 | 18.75 | 29.50 | 17.50 |
| mobilenet_v1_int8 | 19.00 | 10.93 | 13.08 | 7.68 |
"""


def fastest_int8_file() -> str:
    """All families with a runtime and an end-to-end table each, one row a line."""
    parts = ["# Quantized networks", *PREAMBLE]
    for family, runtime, end2end in FAMILIES:
        parts += [f"## {family}", "### Runtime Benchmark", _table(runtime, "Runtime")]
        parts += ["### End2End Benchmark", _table(end2end, "End2End")]
    return "\n\n".join(parts) + "\n"


def folded(markdown: str) -> str:
    """A file whose line breaks were lost: one line, as web pages are sometimes saved."""
    return " ".join(line for line in markdown.splitlines() if line)


def _table(figures: str, mode: str) -> str:
    header = [f"{name} {mode} latency" if name[:4] in ("FP32", "INT8") else name for name in HEADER]
    rows = [f"| {row} |distilled |" for row in figures.strip().splitlines()]
    return "\n".join((_row(header), _row(["----"] * len(header)), *rows))


def _row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"
