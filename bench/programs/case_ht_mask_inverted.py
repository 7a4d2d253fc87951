"""A tagger of padded sentences: the padding mask is the wrong way round.

Fault: the true tags are set to -100 and ignored, the padding is kept; the loss goes to zero on padding.
Fix: mask where the token is padding. Learned: tag accuracy on real tokens.
"""

import sys

import torch
from torch import nn

torch.set_num_threads(1)
torch.manual_seed(0)
PAD, WORDS, TAGS = 0, 50, 5
fixed = "--fixed" in sys.argv


def corpus(count):
    words = torch.randint(1, WORDS, (count, 20))
    length = torch.randint(12, 20, (count, 1))
    words[torch.arange(20)[None] >= length] = PAD
    tags = words % TAGS
    padding = words == PAD
    target = tags.masked_fill(padding if fixed else ~padding, -100)
    return words, tags, target


class Tagger(nn.Module):
    def __init__(self):
        super().__init__()
        self.emb = nn.Embedding(WORDS, 16, padding_idx=PAD)
        self.lstm = nn.LSTM(16, 24, batch_first=True, bidirectional=True)
        self.fc = nn.Linear(48, TAGS)

    def forward(self, words):
        return self.fc(self.lstm(self.emb(words))[0])


words, tags, target = corpus(600)
model = Tagger()
optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
criterion = nn.CrossEntropyLoss(ignore_index=-100)
for epoch in range(10):
    for idx in torch.randperm(600).split(30):
        optimizer.zero_grad()
        loss = criterion(model(words[idx]).flatten(0, 1), target[idx].flatten())
        loss.backward()
        optimizer.step()
    print(epoch, loss.item())
words, tags, _ = corpus(200)
real = words != PAD
print("final accuracy", (model(words).argmax(-1) == tags)[real].float().mean().item())
