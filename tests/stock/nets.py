"""Healthy networks of many families: small, quick, and truly learning.

Each entry of :data:`STOCK` builds a job from a seed. A job's ``step`` trains one
batch as an ordinary script would, and returns the loss. Nothing here knows defib.

Letters: ``N`` batch, ``T`` sequence, ``C`` classes.
"""

import os
from collections.abc import Callable

import torch
import torch.nn.functional as F
from jobs import (
    Batches,
    Job,
    adam,
    digit_images,
    digit_rows,
    digit_vectors,
    digits,
    draws,
    job,
    sentences,
    sgd,
)
from sklearn.datasets import load_diabetes
from torch import Tensor, nn

STOCK: dict[str, Callable[[], Job]] = {}


def stock(build: Callable[[], Job]) -> Callable[[], Job]:
    STOCK[build.__name__] = build
    return build


# ------------------------------------------------------------------ vectors


@stock
def mlp_regression() -> Job:
    x, y = (torch.tensor(a, dtype=torch.float32) for a in load_diabetes(return_X_y=True))
    x, y = x / x.std(0), (y - y.mean()) / y.std()
    model = nn.Sequential(nn.Linear(10, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 1))
    return job(model, adam(model), draws(x, y), lambda out, y: F.mse_loss(out.squeeze(1), y), 150, 0.7)


@stock
def gelu_mlp() -> Job:
    model = nn.Sequential(nn.Linear(64, 96), nn.GELU(), nn.Linear(96, 96), nn.GELU(), nn.Linear(96, 10))
    return job(model, adam(model), digit_vectors(), F.cross_entropy)


@stock
def silu_mlp() -> Job:
    model = nn.Sequential(nn.Linear(64, 96), nn.SiLU(), nn.Linear(96, 96), nn.SiLU(), nn.Linear(96, 10))
    return job(model, sgd(model, 0.05), digit_vectors(), F.cross_entropy)


@stock
def mostly_zeros() -> Job:
    """A wide ReLU layer that is zero nine times in ten, and in which every unit fires at times."""
    x, y = digits()
    x = x - x.mean(0)  # a common offset would switch units on together
    hidden = nn.Linear(64, 256)
    with torch.no_grad():
        hidden.bias -= hidden(x).quantile(0.97, dim=0)
    model = nn.Sequential(hidden, nn.ReLU(), nn.Linear(256, 10))
    return job(model, sgd(model, 0.02), draws(x, y, 64), F.cross_entropy, 150)


@stock
def sparse_autoencoder() -> Job:
    """An autoencoder whose codes are pressed towards zero by an L1 penalty."""
    encoder, decoder = nn.Linear(64, 128), nn.Linear(128, 64)
    model = nn.Sequential(encoder, nn.ReLU(), decoder)
    optimizer = adam(model)
    batches = digit_vectors()

    def step() -> float:
        x, _ = next(batches)
        optimizer.zero_grad()
        codes = torch.relu(encoder(x))
        value = F.mse_loss(decoder(codes), x) + 1e-3 * codes.abs().mean()
        value.backward()
        optimizer.step()
        return value.item()

    return Job(model=model, optimizers=(optimizer,), step=step, steps=150, drop=0.5)


class Mixer(nn.Module):
    """Two MLP-mixer blocks over the eight rows of a digit."""

    def __init__(self, tokens: int = 8, width: int = 32) -> None:
        super().__init__()
        self.embed = nn.Linear(8, width)
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in range(4))
        self.across = nn.ModuleList(self._mlp(tokens) for _ in range(2))
        self.within = nn.ModuleList(self._mlp(width) for _ in range(2))
        self.head = nn.Linear(width, 10)

    @staticmethod
    def _mlp(width: int) -> nn.Sequential:
        return nn.Sequential(nn.Linear(width, 2 * width), nn.GELU(), nn.Linear(2 * width, width))

    def forward(self, x: Tensor) -> Tensor:
        x = self.embed(x)
        for block in range(2):
            x = x + self.across[block](self.norms[2 * block](x).transpose(1, 2)).transpose(1, 2)
            x = x + self.within[block](self.norms[2 * block + 1](x))
        return self.head(x.mean(1))


@stock
def mlp_mixer() -> Job:
    model = Mixer()
    return job(model, adam(model, 3e-3), digit_rows(), F.cross_entropy)


# ------------------------------------------------------------------ images


class Residual(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels)
        self.relu = nn.ReLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        out = self.relu(self.bn1(self.conv1(x)))
        out = self.bn2(self.conv2(out))
        out += x
        return self.relu(out)


@stock
def resnet_like() -> Job:
    stem = [nn.Conv2d(1, 16, 3, padding=1, bias=False), nn.BatchNorm2d(16), nn.ReLU(inplace=True)]
    head = [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(16, 10)]
    model = nn.Sequential(*stem, Residual(16), Residual(16), *head)
    return job(model, sgd(model, 0.05), digit_images(), F.cross_entropy)


@stock
def vgg_like() -> Job:
    features = [nn.Conv2d(1, 16, 3, padding=1), nn.ReLU(True), nn.Conv2d(16, 16, 3, padding=1), nn.ReLU(True)]
    features += [nn.MaxPool2d(2), nn.Conv2d(16, 32, 3, padding=1), nn.ReLU(True), nn.MaxPool2d(2)]
    classifier = [nn.Flatten(), nn.Linear(128, 64), nn.ReLU(True), nn.Dropout(0.2), nn.Linear(64, 10)]
    model = nn.Sequential(*features, *classifier)
    return job(model, adam(model), digit_images(), F.cross_entropy, 120)


@stock
def conv_batchnorm() -> Job:
    """ReLU before the norm, as some write it, and a sigmoid gate on the channels."""

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv1, self.bn1 = nn.Conv2d(1, 12, 3, padding=1), nn.BatchNorm2d(12)
            self.conv2, self.bn2 = nn.Conv2d(12, 24, 3, padding=1), nn.BatchNorm2d(24)
            self.gate = nn.Linear(24, 24)
            self.fc = nn.Linear(24 * 16, 10)

        def forward(self, x: Tensor) -> Tensor:
            x = self.bn1(F.relu(self.conv1(x)))
            x = F.max_pool2d(self.bn2(F.relu(self.conv2(x))), 2)
            x = x * torch.sigmoid(self.gate(x.mean((2, 3))))[:, :, None, None]
            return self.fc(x.flatten(1))

    model = Net()
    return job(model, adam(model), digit_images(), F.cross_entropy, 80)


class UNet(nn.Module):
    """Removes noise from digits; one level down, one up, a skip across."""

    def __init__(self) -> None:
        super().__init__()
        self.down = nn.Sequential(nn.Conv2d(1, 12, 3, padding=1), nn.LeakyReLU(0.1))
        self.bottom = nn.Sequential(nn.Conv2d(12, 24, 3, stride=2, padding=1), nn.LeakyReLU(0.1))
        self.up = nn.ConvTranspose2d(24, 12, 2, stride=2)
        self.out = nn.Conv2d(24, 1, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        high = self.down(x)
        return self.out(torch.cat([high, self.up(self.bottom(high))], dim=1))


@stock
def unet_like() -> Job:
    images = digits()[0].view(-1, 1, 8, 8)
    noisy = images + 0.5 * torch.randn(images.shape)
    model = UNet()
    return job(model, adam(model, 3e-3), draws(noisy, images), F.mse_loss, 120)


# ------------------------------------------------------------------ sequences


class Recurrent(nn.Module):
    def __init__(self, cell: type[nn.RNNBase], width: int = 48) -> None:
        super().__init__()
        self.cell = cell(8, width, batch_first=True)
        self.head = nn.Linear(width, 10)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.cell(x)[0][:, -1])


@stock
def lstm() -> Job:
    model = Recurrent(nn.LSTM)
    return job(model, adam(model, 5e-3), digit_rows(), F.cross_entropy, 120)


@stock
def gru() -> Job:
    model = Recurrent(nn.GRU)
    return job(model, adam(model, 5e-3), digit_rows(), F.cross_entropy, 120)


@stock
def tanh_rnn() -> Job:
    model = Recurrent(nn.RNN)
    return job(model, adam(model, 2e-3), digit_rows(), F.cross_entropy, 150)


@stock
def embedding_classifier() -> Job:
    """Says of a snippet of source whether it was turned round."""
    model = nn.Sequential(
        nn.Embedding(256, 24), nn.Flatten(), nn.Linear(24 * 16, 64), nn.ReLU(), nn.Linear(64, 2)
    )

    def batches() -> Batches:
        for x, _ in sentences(16, 32):
            y = torch.randint(2, (len(x),))
            yield torch.where(y[:, None] == 1, x.flip(1), x), y

    return job(model, adam(model, 5e-3), batches(), F.cross_entropy, 150, 0.8)


# ------------------------------------------------------------------ transformers, from configs


@stock
def gpt2() -> Job:
    os.environ["HF_HUB_OFFLINE"] = "1"
    from transformers import GPT2Config, GPT2LMHeadModel

    config = GPT2Config(
        vocab_size=256, n_positions=32, n_embd=48, n_layer=2, n_head=4, bos_token_id=0, eos_token_id=0
    )
    model = GPT2LMHeadModel(config)
    return job(model, adam(model, 3e-3), sentences(32), _next_byte, 80, 0.85)


def _next_byte(out: object, y: Tensor) -> Tensor:
    return F.cross_entropy(out.logits.flatten(0, 1), y.flatten())  # type: ignore[attr-defined]


@stock
def bert() -> Job:
    os.environ["HF_HUB_OFFLINE"] = "1"
    from transformers import BertConfig, BertForMaskedLM

    config = BertConfig(
        vocab_size=257, hidden_size=48, num_hidden_layers=2, num_attention_heads=4, intermediate_size=96,
        max_position_embeddings=32,
    )  # fmt: skip
    model = BertForMaskedLM(config)

    def batches() -> Batches:
        for x, _ in sentences(32):
            hidden = torch.rand(x.shape) < 0.15
            yield torch.where(hidden, 256, x), torch.where(hidden, x, -100)

    def loss(out: object, y: Tensor) -> Tensor:
        return F.cross_entropy(out.logits.flatten(0, 1), y.flatten())  # type: ignore[attr-defined]

    return job(model, adam(model, 3e-3), batches(), loss, 100, 0.85)


@stock
def vit() -> Job:
    os.environ["HF_HUB_OFFLINE"] = "1"
    from transformers import ViTConfig, ViTForImageClassification

    config = ViTConfig(
        image_size=8, patch_size=2, num_channels=1, hidden_size=48, num_hidden_layers=2,
        num_attention_heads=4, intermediate_size=96, num_labels=10,
    )  # fmt: skip
    model = ViTForImageClassification(config)
    return job(model, adam(model), digit_images(), lambda out, y: F.cross_entropy(out.logits, y), 120)


# ------------------------------------------------------------------ two optimisers


@stock
def gan() -> Job:
    """A generator and a discriminator in balance on points of a ring.

    Neither loss falls in a healthy GAN; what falls is the distance of the
    generated points from the ring, and that is what ``step`` returns.
    """
    generator = nn.Sequential(nn.Linear(4, 32), nn.LeakyReLU(0.2), nn.Linear(32, 32), nn.LeakyReLU(0.2))
    generator.append(nn.Linear(32, 2))
    judge = nn.Sequential(nn.Linear(2, 32), nn.LeakyReLU(0.2), nn.Linear(32, 32), nn.LeakyReLU(0.2))
    judge.append(nn.Linear(32, 1))
    model = nn.ModuleDict({"generator": generator, "judge": judge})
    for_generator = torch.optim.Adam(generator.parameters(), lr=2e-3, betas=(0.5, 0.99))
    for_judge = torch.optim.Adam(judge.parameters(), lr=2e-3, betas=(0.5, 0.99))

    def step() -> float:
        angle = torch.rand(64, 1) * 2 * torch.pi
        real = torch.cat([angle.cos(), angle.sin()], 1)
        fake = generator(torch.randn(64, 4))
        for_judge.zero_grad()
        (F.softplus(-judge(real)) + F.softplus(judge(fake.detach()))).mean().backward()
        for_judge.step()
        for_generator.zero_grad()
        F.softplus(-judge(fake)).mean().backward()
        for_generator.step()
        return (fake.detach().norm(dim=1) - 1).abs().mean().item()

    return Job(model=model, optimizers=(for_judge, for_generator), step=step, steps=150, drop=0.6)
