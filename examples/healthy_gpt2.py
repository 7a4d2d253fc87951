"""A tiny GPT-2 that learns to write like Python's own standard library, byte by byte.

The text is the source of a few modules of the standard library, so nothing is
downloaded; the model comes from a config, not from a checkpoint. It learns, and
nothing is wrong with it.

expected: healthy
"""

import argparse
import os
import pathlib
import textwrap

os.environ["HF_HUB_OFFLINE"] = "1"

import torch
import torch.nn.functional as F
from transformers import GPT2Config, GPT2LMHeadModel

SEQUENCE = 64
BATCH = 16


def corpus():
    folder = pathlib.Path(textwrap.__file__).parent
    text = b"".join((folder / name).read_bytes() for name in ("textwrap.py", "argparse.py", "shutil.py"))
    return torch.tensor(list(text), dtype=torch.long)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(args.seed)

    text = corpus()
    config = GPT2Config(
        vocab_size=256,
        n_positions=SEQUENCE,
        n_embd=64,
        n_layer=2,
        n_head=4,
        bos_token_id=0,
        eos_token_id=0,
    )
    model = GPT2LMHeadModel(config)
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)

    for epoch in range(args.epochs):
        total, steps = 0.0, 50
        for _ in range(steps):
            starts = torch.randint(len(text) - SEQUENCE - 1, (BATCH,))
            x = torch.stack([text[i : i + SEQUENCE + 1] for i in starts.tolist()])
            logits = model(input_ids=x[:, :-1]).logits
            loss = F.cross_entropy(logits.flatten(0, 1), x[:, 1:].flatten())
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            total += loss.item()
        print(f"epoch {epoch}: loss {total / steps:.4f}")


if __name__ == "__main__":
    main()
