"""What every backbone is: features at output stride 8."""

from torch import Tensor, nn

STRIDE = 8
"""Input px for one px of the features, along each axis."""


class Backbone(nn.Module):
    """Pictures to features: [B, 3, H, W] -> [B, channels, ceil(H / 8), ceil(W / 8)].

    The names of the parameters are those of the library that the network is from.

    Attributes:
        channels: of the features.
    """

    channels: int

    def __init__(self) -> None:
        super().__init__()
        self._frozen: list[nn.Module] = []

    def freeze_batch_norm(self) -> bool:
        """Makes batch norms keep their running statistics, scales and shifts; False: there are none."""
        self._frozen = [module for module in self.modules() if isinstance(module, nn.BatchNorm2d)]
        for norm in self._frozen:
            norm.requires_grad_(False).eval()
        return bool(self._frozen)

    def forward(self, images: Tensor) -> Tensor:
        """[B, 3, H, W] -> [B, channels, ceil(H / 8), ceil(W / 8)]."""
        raise NotImplementedError

    def train(self, mode: bool = True) -> "Backbone":
        super().train(mode)
        for norm in self._frozen:
            norm.eval()
        return self
