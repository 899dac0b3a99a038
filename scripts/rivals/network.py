"""The 3D-CVAE of a layer specification (spec_*.json), as a PyTorch user would write it.

Arrays are `[batch, 1, y, x, energy]`.
"""

import torch
from torch import nn
from torch.nn import functional


class Cvae(nn.Module):
    """Convolutions down to a latent code, and their mirror image back to logits over energy."""

    def __init__(self, spec: dict):
        super().__init__()
        layers, size, channels = spec["encoder"], [*spec["patch"], spec["energy"]], 1
        encoder, decoder = [], []
        for layer in layers:
            geometry = list(zip(size, layer["kernel"], layer["stride"], layer["pad"]))
            smaller = [(n + 2 * pad - kernel) // stride + 1 for n, kernel, stride, pad in geometry]
            # A stride may drop the last values of an axis; the mirror image adds them again.
            dropped = [(n + 2 * pad - kernel) % stride for n, kernel, stride, pad in geometry]
            shape = layer["kernel"], layer["stride"], layer["pad"]
            encoder += [nn.Conv3d(channels, layer["out"], *shape), nn.ReLU()]
            decoder = [nn.ConvTranspose3d(layer["out"], channels, *shape, output_padding=dropped), nn.ReLU(), *decoder]
            size, channels = smaller, layer["out"]
        self.inner = channels, *size
        flat, hidden, latent = torch.Size(self.inner).numel(), spec["hidden"], spec["latent"]
        self.encoder = nn.Sequential(*encoder, nn.Flatten())
        self.to_latent = nn.Sequential(nn.Linear(flat, hidden), nn.ReLU(), nn.Linear(hidden, 2 * latent))
        self.from_latent = nn.Sequential(nn.Linear(latent, hidden), nn.ReLU(), nn.Linear(hidden, flat), nn.ReLU())
        # The last layer gives logits: no ReLU after it.
        self.decoder = nn.Sequential(*decoder[:-1])

    def encode(self, spectra: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Mean and logarithm of the variance, `[batch, latent]` each."""
        mean, log_variance = self.to_latent(self.encoder(spectra)).float().chunk(2, dim=1)
        return mean, log_variance

    def decode(self, code: torch.Tensor) -> torch.Tensor:
        """Logits over energy, shaped as the input."""
        return self.decoder(self.from_latent(code).unflatten(1, self.inner))

    def forward(self, spectra: torch.Tensor) -> torch.Tensor:
        """Cross-entropy along energy plus the Kullback-Leibler term, a patch. Spectra sum to 1."""
        mean, log_variance = self.encode(spectra)
        code = mean + torch.exp(log_variance / 2) * torch.randn_like(mean)
        log_shares = functional.log_softmax(self.decode(code).float(), dim=-1)
        kl = (mean**2 + log_variance.exp() - log_variance - 1).sum() / 2
        return (kl - (spectra * log_shares).sum()) / len(spectra)
