"""Interface of all backbones, which compute features at output stride 8."""

from torch import Tensor, nn

STRIDE = 8
"""Input px per px of the features, along each axis."""


class Backbone(nn.Module):
    """Network that maps pictures [B, 3, H, W] to features [B, channels, ceil(H / 8), ceil(W / 8)].

    Parameters have the names of the library that the network is from.

    Attributes:
        channels: number of channels of the features.
    """

    channels: int

    def __init__(self) -> None:
        super().__init__()
        self._frozen: list[nn.Module] = []

    def freeze_batch_norm(self) -> bool:
        """Makes batch norms keep their running statistics, scales and shifts; returns False if there are none."""
        self._frozen = [module for module in self.modules() if isinstance(module, nn.BatchNorm2d)]
        for norm in self._frozen:
            norm.requires_grad_(False).eval()
        return bool(self._frozen)

    def forward(self, images: Tensor) -> Tensor:
        """Maps [B, 3, H, W] to [B, channels, ceil(H / 8), ceil(W / 8)]."""
        raise NotImplementedError

    def train(self, mode: bool = True) -> "Backbone":
        super().train(mode)
        for norm in self._frozen:
            norm.eval()
        return self
