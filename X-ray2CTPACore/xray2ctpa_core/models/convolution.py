"""A 3D convolution that is as fast for a single case as for several."""

import torch
from torch import nn


class Conv3d(nn.Conv3d):
    """nn.Conv3d, by oneDNN on a CPU also for a single case in single precision.

    torch leaves a small case (batch times channels times depth times height up to 20,480) to its oldest code
    unless kernels are wider than 3: up to four times as long for the same result but for rounding.
    """

    def forward(self, input: torch.Tensor) -> torch.Tensor:  # noqa: A002 - torch's name
        """(B, C, D, H, W) -> (B, C', D', H', W')."""
        padding, stride, dilation = self.padding, self.stride, self.dilation
        if isinstance(padding, str) or not self._is_left_to_oldest(input):
            return super().forward(input)
        return torch.mkldnn_convolution(input, self.weight, self.bias, padding, stride, dilation, self.groups)

    def _is_left_to_oldest(self, x: torch.Tensor) -> bool:
        return (
            x.device.type == "cpu"
            and x.dtype == self.weight.dtype == torch.float32
            and x.ndim == 5
            and len(x) == 1
            and self.kernel_size != (1, 1, 1)
            and self.padding_mode == "zeros"
            and not torch.is_autocast_enabled("cpu")
            and torch.backends.mkldnn.is_available()
        )
