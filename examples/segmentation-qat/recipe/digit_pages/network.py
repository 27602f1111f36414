"""A small encoder and decoder of depthwise separable convolutions. Not for how it is trained."""

from paddle import Tensor, nn
from paddle.nn import functional


class Separable(nn.Layer):
    """A 3×3 depthwise and a 1×1 convolution, each with batch norm and ReLU."""

    def __init__(self, inputs: int, outputs: int, stride: int = 1) -> None:
        super().__init__()
        self.depthwise = nn.Conv2D(inputs, inputs, 3, stride, padding=1, groups=inputs, bias_attr=False)
        self.depthwise_norm = nn.BatchNorm2D(inputs)
        self.pointwise = nn.Conv2D(inputs, outputs, 1, bias_attr=False)
        self.pointwise_norm = nn.BatchNorm2D(outputs)

    def forward(self, features: Tensor) -> Tensor:
        """Return (n, outputs, h / stride, w / stride) of (n, inputs, h, w)."""
        features = functional.relu(self.depthwise_norm(self.depthwise(features)))
        return functional.relu(self.pointwise_norm(self.pointwise(features)))


class PageNet(nn.Layer):
    """Four stages down to an eighth of the page's side, and back up by sums with what was there before."""

    def __init__(self, width: int, classes: int) -> None:
        super().__init__()
        self.stem = nn.Conv2D(3, width, 3, stride=2, padding=1, bias_attr=False)
        self.stem_norm = nn.BatchNorm2D(width)
        self.fine = Separable(width, width)
        self.middle = nn.Sequential(Separable(width, 2 * width, 2), Separable(2 * width, 2 * width))
        self.coarse = nn.Sequential(
            Separable(2 * width, 4 * width, 2), *(Separable(4 * width, 4 * width) for _ in range(3))
        )
        self.to_middle = nn.Conv2D(4 * width, 2 * width, 1)
        self.refine_middle = Separable(2 * width, 2 * width)
        self.to_fine = nn.Conv2D(2 * width, width, 1)
        self.refine_fine = Separable(width, width)
        self.classifier = nn.Conv2D(width, classes, 1)

    def forward(self, pages: Tensor) -> Tensor:
        """Return the logits, (n, classes, h, w), of pages (n, 3, h, w)."""
        fine = self.fine(functional.relu(self.stem_norm(self.stem(pages))))
        middle = self.middle(fine)
        coarse = self.coarse(middle)
        middle = self.refine_middle(middle + _twice(self.to_middle(coarse)))
        fine = self.refine_fine(fine + _twice(self.to_fine(middle)))
        return _twice(self.classifier(fine))


def _twice(features: Tensor) -> Tensor:
    return functional.interpolate(features, scale_factor=2, mode="bilinear", align_corners=False)
