"""Bag-of-words topics, 40 classes: softmax in the model and CrossEntropyLoss outside.

Fault: the loss applies its own softmax to probabilities; its logits lie in [0, 1], it cannot fall below 2.7
and the gradient is a fortieth of what it should be. Fix: hand over the logits. Learned: test accuracy.
"""

import sys

import torch
from torch import nn

torch.set_num_threads(1)
torch.manual_seed(0)


class BagOfWords(nn.Module):
    def __init__(self, words, topics, probabilities):
        super().__init__()
        self.bag = nn.EmbeddingBag(words, 32, mode="mean")
        self.hidden = nn.Linear(32, 64)
        self.out = nn.Linear(64, topics)
        self.probabilities = probabilities

    def forward(self, tokens):
        scores = self.out(self.hidden(self.bag(tokens)).relu())
        return torch.softmax(scores, dim=1) if self.probabilities else scores


def documents(count, topics=40, words=600):
    topic = torch.randint(0, topics, (count,))
    own = topic[:, None] * 15 + torch.randint(0, 15, (count, 12))
    noise = torch.randint(0, words, (count, 12))
    return torch.cat([own, noise], 1), topic


train_x, train_y = documents(3000)
test_x, test_y = documents(600)
model = BagOfWords(600, 40, probabilities="--fixed" not in sys.argv)
criterion = nn.CrossEntropyLoss()
optimizer = torch.optim.SGD(model.parameters(), lr=0.5, momentum=0.9)
for epoch in range(20):
    for idx in torch.randperm(3000).split(60):
        optimizer.zero_grad()
        loss = criterion(model(train_x[idx]), train_y[idx])
        loss.backward()
        optimizer.step()
    print(f"epoch {epoch} loss {loss.item():.4f}")
print("final accuracy", (model(test_x).argmax(1) == test_y).float().mean().item())
