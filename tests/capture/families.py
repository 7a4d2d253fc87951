"""Forty ways to write a training step, small and as ordinary scripts have them.

Each entry of :data:`FAMILIES` builds a training from a seed that is already set.
Nothing here knows defib.

Letters: ``N`` batch, ``T`` sequence.
"""

import copy
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call, grad, vmap
from torch.nn.utils import clip_grad_norm_, parametrizations
from torch.utils.checkpoint import checkpoint

N = 6


@dataclass(frozen=True, kw_only=True)
class Training:
    """A network on its way.

    Attributes:
        modules: All networks, by name.
        optimizers: All optimisers.
        step: Trains one step; returns losses and outputs.
    """

    modules: dict[str, nn.Module]
    optimizers: list[torch.optim.Optimizer]
    step: Callable[[], list[Tensor]]


FAMILIES: dict[str, Callable[[], Training]] = {}


def family(build: Callable[[], Training]) -> Callable[[], Training]:
    FAMILIES[build.__name__] = build
    return build


def plain(
    model: nn.Module,
    batch: Callable[[], tuple[Any, ...]],
    loss: Callable[..., Tensor] = F.cross_entropy,
    optimizer: Callable[..., torch.optim.Optimizer] = torch.optim.Adam,
    read: Callable[[Any], Tensor] = lambda out: out,
    **options: Any,
) -> Training:
    """The usual loop around a model: ``batch`` gives its inputs and, last, the target."""
    opt = optimizer([p for p in model.parameters() if p.requires_grad], **{"lr": 1e-2, **options})

    def step() -> list[Tensor]:
        *inputs, target = batch()
        opt.zero_grad()
        out = read(model(*inputs))
        value = loss(out, target)
        value.backward()
        opt.step()
        return [value, out]

    return Training(modules={"model": model}, optimizers=[opt], step=step)


def rows(width: int = 8, classes: int = 4, dtype: torch.dtype = torch.float32) -> tuple[Tensor, Tensor]:
    return torch.randn(N, width, dtype=dtype), torch.randint(classes, (N,))


def images() -> tuple[Tensor, Tensor]:
    return torch.randn(N, 3, 8, 8), torch.randint(4, (N,))


def tokens(classes: int = 17, length: int = 5) -> tuple[Tensor, Tensor]:
    return torch.randint(classes, (N, length)), torch.randint(4, (N,))


def mlp(width: int = 8, act: Callable[[], nn.Module] = nn.ReLU, out: int = 4, **kw: Any) -> nn.Sequential:
    return nn.Sequential(
        nn.Linear(width, 16, **kw), act(), nn.Linear(16, 16, **kw), act(), nn.Linear(16, out, **kw)
    )


@family
def mlp_relu() -> Training:
    return plain(mlp(), rows, optimizer=torch.optim.SGD, momentum=0.9)


@family
def mlp_with_dropout_tanh_and_gelu() -> Training:
    model = nn.Sequential(
        nn.Linear(8, 16), nn.Tanh(), nn.Dropout(0.3), nn.Linear(16, 16), nn.GELU(), nn.Dropout(0.3),
        nn.Linear(16, 4),
    )  # fmt: skip
    return plain(model, rows)


class InPlace(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.inner, self.a, self.b = nn.Linear(8, 8), nn.Linear(8, 8), nn.Linear(8, 4)
        self.act = nn.ReLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        y = self.act(self.inner(x))
        y = F.leaky_relu_(self.a(y) + 1) * 1.0
        y += x
        y.clamp_(min=0)
        return self.b(F.relu_(y * 1.0))


@family
def in_place_activations_and_sums() -> Training:
    return plain(InPlace(), rows)


class FunctionalCNN(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.c1, self.c2, self.fc = nn.Conv2d(3, 6, 3), nn.Conv2d(6, 8, 3, bias=False), nn.Linear(8, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.c1(x))
        x = F.max_pool2d(torch.relu(self.c2(x)), 2)
        return self.fc(x.mean((2, 3)))


@family
def functional_cnn() -> Training:
    return plain(FunctionalCNN(), images)


class Attention(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.q, self.k, self.v = (nn.Conv2d(width, width, 1) for _ in range(3))

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = (f(x).flatten(2) for f in (self.q, self.k, self.v))
        return (v @ F.softmax(q.transpose(1, 2) @ k, -1)).view_as(x)


class ResNet(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem, self.bn = nn.Conv2d(3, 8, 3, padding=1, bias=False), nn.BatchNorm2d(8)
        self.body, self.bn2 = nn.Conv2d(8, 8, 3, padding=1, bias=False), nn.BatchNorm2d(8)
        self.attn, self.fc = Attention(8), nn.Linear(8, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.bn(self.stem(x)))
        x = F.relu(x + self.bn2(self.body(x)))
        x = x + self.attn(x)
        return self.fc((x + x).mean((2, 3)))


@family
def residual_batch_norm_net_that_uses_its_input_twice() -> Training:
    return plain(ResNet(), images, optimizer=torch.optim.SGD, momentum=0.9, nesterov=True)


@family
def channels_last_cnn() -> Training:
    def batch() -> tuple[Tensor, Tensor]:
        x, y = images()
        return x.to(memory_format=torch.channels_last), y

    return plain(ResNet().to(memory_format=torch.channels_last), batch)  # type: ignore[call-overload]


class GPT(nn.Module):
    def __init__(self, width: int = 16, vocabulary: int = 17) -> None:
        super().__init__()
        self.tok, self.pos = nn.Embedding(vocabulary, width), nn.Embedding(8, width)
        self.ln1, self.ln2, self.lnf = (nn.LayerNorm(width) for _ in range(3))
        self.qkv, self.proj = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.up, self.down = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)
        self.head = nn.Linear(width, vocabulary, bias=False)
        self.head.weight = self.tok.weight

    def forward(self, ids: Tensor) -> Tensor:
        x = self.tok(ids) + self.pos(torch.arange(ids.shape[1]))
        q, k, v = (t.unflatten(-1, (2, -1)).transpose(1, 2) for t in self.qkv(self.ln1(x)).chunk(3, -1))
        y = F.scaled_dot_product_attention(q, k, v, is_causal=True, dropout_p=0.1 if self.training else 0.0)
        x = x + self.proj(y.transpose(1, 2).flatten(2))
        x = x + self.down(F.gelu(self.up(self.ln2(x)), approximate="tanh"))
        return self.head(self.lnf(x))


def next_token(logits: Tensor, ids: Tensor) -> Tensor:
    return F.cross_entropy(logits[:, :-1].flatten(0, 1), ids[:, 1:].flatten())


@family
def gpt_with_tied_head() -> Training:
    def batch() -> tuple[Tensor, Tensor]:
        ids = tokens()[0]
        return ids, ids

    return plain(GPT(), batch, next_token, torch.optim.AdamW, weight_decay=0.1)


@family
def huggingface_gpt2() -> Training:
    from transformers import GPT2Config, GPT2LMHeadModel

    config = GPT2Config(vocab_size=17, n_positions=8, n_embd=16, n_layer=2, n_head=2)
    return huggingface(GPT2LMHeadModel(config), lambda ids: {"input_ids": ids, "labels": ids})


@family
def huggingface_bert() -> Training:
    from transformers import BertConfig, BertForSequenceClassification

    config = BertConfig(
        vocab_size=17, hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=24,
        max_position_embeddings=8, num_labels=4,
    )  # fmt: skip
    model = BertForSequenceClassification(config)
    return huggingface(model, lambda ids: {"input_ids": ids, "labels": torch.randint(4, (N,))})


@family
def huggingface_t5() -> Training:
    from transformers import T5Config, T5ForConditionalGeneration

    config = T5Config(
        vocab_size=17, d_model=16, d_kv=8, d_ff=24, num_layers=1, num_heads=2, decoder_start_token_id=0,
        pad_token_id=0,
    )  # fmt: skip
    return huggingface(T5ForConditionalGeneration(config), lambda ids: {"input_ids": ids, "labels": ids})


def huggingface(model: nn.Module, inputs: Callable[[Tensor], dict[str, Tensor]]) -> Training:
    model.train()
    opt = torch.optim.AdamW(model.parameters(), lr=1e-3)

    def step() -> list[Tensor]:
        out = model(**inputs(tokens()[0]))
        opt.zero_grad()
        out.loss.backward()
        clip_grad_norm_(model.parameters(), 1.0)
        opt.step()
        return [out.loss, out.logits]

    return Training(modules={"model": model}, optimizers=[opt], step=step)


class Recurrent(nn.Module):
    def __init__(self, kind: type[nn.RNNBase]) -> None:
        super().__init__()
        self.rnn, self.mid, self.out = kind(8, 12, 2, batch_first=True), nn.Linear(12, 8), nn.Linear(8, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.out(F.relu(self.mid(self.rnn(x)[0][:, -1])))


def sequences() -> tuple[Tensor, Tensor]:
    return torch.randn(N, 5, 8), torch.randint(4, (N,))


@family
def lstm() -> Training:
    return plain(Recurrent(nn.LSTM), sequences)


@family
def gru() -> Training:
    return plain(Recurrent(nn.GRU), sequences)


@family
def recurrent_cell_unrolled_by_hand() -> Training:
    class Unrolled(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.cell, self.out = nn.LSTMCell(8, 8), nn.Linear(8, 4)

        def forward(self, x: Tensor) -> Tensor:
            h = c = x.new_zeros(N, 8)
            for t in range(x.shape[1]):
                h, c = self.cell(x[:, t], (h, c))
            return self.out(torch.relu(h))

    return plain(Unrolled(), sequences)


@family
def sparse_embedding_gradients() -> Training:
    model = nn.Sequential(nn.Embedding(17, 8, sparse=True), nn.Flatten(), *mlp(40))
    sparse = torch.optim.SparseAdam(list(model[0].parameters()), lr=1e-2)
    dense = torch.optim.Adam(model[2:].parameters(), lr=1e-2)

    def step() -> list[Tensor]:
        ids, y = tokens()
        out = model(ids)
        loss = F.cross_entropy(out, y)
        sparse.zero_grad()
        dense.zero_grad()
        loss.backward()
        sparse.step()
        dense.step()
        return [loss, out]

    return Training(modules={"model": model}, optimizers=[sparse, dense], step=step)


@family
def embedding_bag() -> Training:
    return plain(nn.Sequential(nn.EmbeddingBag(17, 8, mode="mean"), *mlp()), tokens)


@family
def weight_and_spectral_norm_parametrizations() -> Training:
    model = mlp()
    parametrizations.weight_norm(model[0])
    parametrizations.spectral_norm(model[2])
    return plain(model, rows)


@family
def tied_weights() -> Training:
    model = nn.Sequential(nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 4))
    model[2].weight = model[0].weight
    return plain(model, rows)


def checkpointed(use_reentrant: bool) -> Training:
    class Checkpointed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.stem, self.body, self.head = nn.Linear(8, 8), mlp(out=8), nn.Linear(8, 4)
            self.drop = nn.Dropout(0.2)

        def forward(self, x: Tensor) -> Tensor:
            x = torch.relu(self.stem(x))
            x = checkpoint(lambda t: self.drop(self.body(t)), x, use_reentrant=use_reentrant)
            return self.head(torch.relu(x))

    return plain(Checkpointed(), rows)


@family
def reentrant_checkpoint() -> Training:
    return checkpointed(True)


@family
def non_reentrant_checkpoint() -> Training:
    return checkpointed(False)


@family
def gradient_accumulation() -> Training:
    model = mlp()
    opt = torch.optim.Adam(model.parameters(), lr=1e-2)

    def step() -> list[Tensor]:
        losses = []
        for _ in range(3):
            x, y = rows()
            loss = F.cross_entropy(model(x), y) / 3
            loss.backward()
            losses.append(loss)
        opt.step()
        opt.zero_grad(set_to_none=False)
        return losses

    return Training(modules={"model": model}, optimizers=[opt], step=step)


@family
def gan_with_gradient_penalty() -> Training:
    g, d = mlp(out=8), mlp(act=nn.Softplus, out=1)
    opt_g = torch.optim.Adam(g.parameters(), lr=1e-3, betas=(0.0, 0.9))
    opt_d = torch.optim.Adam(d.parameters(), lr=1e-3, betas=(0.0, 0.9))

    def step() -> list[Tensor]:
        real, fake = torch.randn(N, 8), g(torch.randn(N, 8)).detach()
        mix = torch.lerp(real, fake, torch.rand(N, 1)).requires_grad_()
        (slope,) = torch.autograd.grad(d(mix).sum(), mix, create_graph=True)
        loss_d = d(fake).mean() - d(real).mean() + 10 * ((slope.norm(dim=1) - 1) ** 2).mean()
        opt_d.zero_grad()
        loss_d.backward()
        opt_d.step()
        loss_g = -d(g(torch.randn(N, 8))).mean()
        opt_g.zero_grad()
        loss_g.backward()
        opt_g.step()
        return [loss_d, loss_g]

    return Training(modules={"g": g, "d": d}, optimizers=[opt_g, opt_d], step=step)


@family
def backward_with_create_graph() -> Training:
    model = mlp(act=nn.Tanh)
    opt = torch.optim.SGD(model.parameters(), lr=1e-2)

    def step() -> list[Tensor]:
        x, y = rows()
        opt.zero_grad()
        loss = F.cross_entropy(model(x), y)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            loss.backward(create_graph=True)
        sum((p.grad**2).sum() for p in model.parameters()).backward()
        opt.step()
        return [loss]

    return Training(modules={"model": model}, optimizers=[opt], step=step)


@family
def lbfgs() -> Training:
    model = mlp(act=nn.Tanh)
    opt = torch.optim.LBFGS(model.parameters(), lr=0.1, max_iter=4)
    x, y = rows()

    def step() -> list[Tensor]:
        def closure() -> Tensor:
            opt.zero_grad()
            loss = F.cross_entropy(model(x), y)
            loss.backward()
            return loss

        return [opt.step(closure)]

    return Training(modules={"model": model}, optimizers=[opt], step=step)


@family
def adam_foreach() -> Training:
    return plain(mlp(), rows, foreach=True)


@family
def adam_fused() -> Training:
    return plain(mlp(), rows, fused=True)


@family
def adam_amsgrad_with_learning_rate_in_a_tensor() -> Training:
    return plain(mlp(), rows, amsgrad=True, foreach=False, lr=torch.tensor(1e-2))


@family
def optimizer_in_backward() -> Training:
    model = mlp()
    opts = {p: torch.optim.Adam([p], lr=1e-2) for p in model.parameters()}

    def update(p: Tensor) -> None:
        opts[p].step()
        opts[p].zero_grad()

    for p in model.parameters():
        p.register_post_accumulate_grad_hook(update)

    def step() -> list[Tensor]:
        x, y = rows()
        loss = F.cross_entropy(model(x), y)
        loss.backward()
        return [loss]

    return Training(modules={"model": model}, optimizers=list(opts.values()), step=step)


@family
def bfloat16_model() -> Training:
    return plain(
        mlp(dtype=torch.bfloat16),
        lambda: rows(dtype=torch.bfloat16),
        lambda o, y: F.cross_entropy(o.float(), y),
    )


@family
def float64_model() -> Training:
    return plain(mlp(dtype=torch.float64), lambda: rows(dtype=torch.float64))


@family
def autocast_bfloat16() -> Training:
    class Autocast(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net, self.cnn = mlp(), FunctionalCNN()

        def forward(self, x: Tensor) -> Tensor:
            with torch.autocast("cpu", torch.bfloat16):
                return self.cnn(x) + self.net(x[:, 0, 0])

    return plain(Autocast(), images, lambda o, y: F.cross_entropy(o.float(), y))


@family
def grad_scaler_with_float16_autocast() -> Training:
    model = mlp()
    opt = torch.optim.SGD(model.parameters(), lr=1e-2)
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**18, growth_interval=2)

    def step() -> list[Tensor]:
        x, y = rows()
        opt.zero_grad()
        with torch.autocast("cpu", torch.float16):
            out = model(x)
        loss = F.cross_entropy(out.float(), y)
        scaler.scale(loss).backward()
        scaler.unscale_(opt)
        clip_grad_norm_(model.parameters(), 1.0)
        scaler.step(opt)
        scaler.update()
        return [loss, out, torch.tensor(scaler.get_scale())]

    return Training(modules={"model": model}, optimizers=[opt], step=step)


@dataclass
class Out:
    logits: Tensor
    extra: dict[str, Any] = field(default_factory=dict)


@family
def outputs_in_a_dict_a_tuple_and_a_dataclass() -> Training:
    class Structured(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net = mlp()

        def forward(self, x: Tensor) -> dict[str, Any]:
            out = self.net(x)
            return {"a": (out, [out * 2]), "b": Out(logits=out, extra={"late": (v for v in (1, 2))})}

    return plain(Structured(), rows, read=lambda o: o["a"][1][0] + o["b"].logits + sum(o["b"].extra["late"]))


@family
def module_shared_three_times() -> Training:
    class Shared(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc, self.act, self.out = nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 4)

        def forward(self, x: Tensor) -> Tensor:
            for _ in range(3):
                x = self.act(self.fc(x))
            return self.out(x)

    return plain(Shared(), rows)


@family
def validation_with_gradients_on() -> Training:
    training = plain(nn.Sequential(nn.Linear(8, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Linear(16, 4)), rows)
    model = training.modules["model"]

    def step() -> list[Tensor]:
        seen = training.step()
        model.eval()
        x, y = rows()
        seen.append(F.cross_entropy(model(x), y))
        with torch.no_grad():
            seen.append(model(x))
        with torch.inference_mode():
            marks = model(x)
        seen.append(marks.clone())
        model.train()
        return seen

    return Training(modules=training.modules, optimizers=training.optimizers, step=step)


@family
def moving_average_copied_at_each_step() -> Training:
    training = plain(mlp(), rows)
    modules = dict(training.modules)

    def step() -> list[Tensor]:
        seen = training.step()
        modules["ema"] = copy.deepcopy(modules["model"])
        return [*seen, modules["ema"](rows()[0])]

    return Training(modules=modules, optimizers=training.optimizers, step=step)


@family
def graph_retained_and_run_twice() -> Training:
    model = mlp()
    opt = torch.optim.RMSprop(model.parameters(), lr=1e-3)

    def step() -> list[Tensor]:
        x, y = rows()
        opt.zero_grad()
        out = model(x)
        first, second = F.cross_entropy(out, y), out.square().mean()
        first.backward(retain_graph=True)
        second.backward()
        torch.autograd.backward([(p * p).sum() for p in model.parameters()])
        opt.step()
        return [first, second]

    return Training(modules={"model": model}, optimizers=[opt], step=step)


@family
def per_sample_gradients_with_vmap() -> Training:
    training = plain(mlp(), rows)
    model = training.modules["model"]

    def one(params: dict[str, Tensor], x: Tensor, y: Tensor) -> Tensor:
        return F.cross_entropy(functional_call(model, params, (x[None],)), y[None])

    def step() -> list[Tensor]:
        params = {k: v.detach() for k, v in model.named_parameters()}
        per_sample = vmap(grad(one), in_dims=(None, 0, 0))(params, *rows())
        return [*per_sample.values(), *training.step()]

    return Training(modules=training.modules, optimizers=training.optimizers, step=step)


@family
def transformer_encoder() -> Training:
    layer = nn.TransformerEncoderLayer(16, 2, 24, dropout=0.1, batch_first=True, norm_first=True)
    model = nn.Sequential(
        nn.Linear(8, 16),
        nn.TransformerEncoder(layer, 2, enable_nested_tensor=False),
        nn.Flatten(),
        nn.Linear(80, 4),
    )
    return plain(model, sequences)


@family
def saved_tensors_moved_by_the_users_hooks() -> Training:
    model = mlp(act=nn.ReLU)
    opt = torch.optim.SGD(model.parameters(), lr=1e-2)

    def step() -> list[Tensor]:
        x, y = rows()
        opt.zero_grad()
        with torch.autograd.graph.saved_tensors_hooks(lambda t: t.clone(), lambda t: t):
            loss = F.cross_entropy(model[:4](x) @ model[4].weight.T, y)
        loss.backward()
        opt.step()
        return [loss]

    return Training(modules={"model": model}, optimizers=[opt], step=step)


@family
def users_own_hooks_everywhere() -> Training:
    model = mlp()
    model[0].register_forward_hook(lambda m, i, o: o * 1.5)
    model[2].register_full_backward_hook(lambda m, gi, go: tuple(g * 0.5 for g in gi))
    model[4].weight.register_hook(lambda g: g.clamp(-0.1, 0.1))
    return plain(model, rows)


@family
def transposed_convolutions_of_an_autoencoder() -> Training:
    model = nn.Sequential(
        nn.Conv2d(3, 6, 3, stride=2, padding=1), nn.ELU(), nn.GroupNorm(2, 6), nn.SiLU(),
        nn.ConvTranspose2d(6, 5, 4, stride=2, padding=1, bias=False), nn.ReLU(), nn.Conv2d(5, 3, 1),
    )  # fmt: skip

    def batch() -> tuple[Tensor, Tensor]:
        x = images()[0]
        return x, x

    return plain(model, batch, F.mse_loss)


@family
def frozen_base_with_a_trained_head() -> Training:
    model = mlp()
    for p in model[0].parameters():
        p.requires_grad_(False)
    return plain(model, rows, F.multi_margin_loss)
