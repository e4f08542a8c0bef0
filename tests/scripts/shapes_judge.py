"""Trains the judge of the shapes experiment, a small CNN that says what a picture shows.

Takes: two folders of pictures with their tables of labels, as the crate `shapes` renders them with
`--labels`: one to learn from, one to measure on; both of seeds that no teacher was trained on.
Gives: an ONNX file with the input `pictures` [N, 3, 64, 64] in [-1, 1] and the outputs `features`
[N, 64], in which Frechet distances are measured, and `logits` [N, 30]: the columns of each head one
after the other, in the order of HEADS.
Never: sees a picture that a model drew.

    python tests/scripts/shapes_judge.py TRAIN TEST OUT.onnx
"""

import argparse
import csv
import pathlib
import time

import numpy
import torch
from PIL import Image
from torch import nn

# What each head tells apart, and how many answers it has. Captions never mention the last two, but
# features that hold them see whether a picture is right where its caption leaves it open.
HEADS = {
    "shape": 4,
    "colour": 6,
    "background": 6,
    "size": 2,
    "position": 5,
    "texture": 4,
    "others": 3,
}
FEATURES = 64
BATCH = 64
LEARNING_RATE = 3e-3


class Judge(nn.Module):
    def __init__(self) -> None:
        super().__init__()

        def level(width_in: int, width: int) -> list[nn.Module]:
            convolution = nn.Conv2d(width_in, width, 3, stride=2, padding=1, bias=False)
            return [convolution, nn.BatchNorm2d(width), nn.ReLU()]

        self.body = nn.Sequential(
            *level(3, 24),
            *level(24, 32),
            nn.Conv2d(32, 48, 3, padding=1, bias=False),
            nn.BatchNorm2d(48),
            nn.ReLU(),
            *level(48, 48),
            *level(48, 32),
            nn.Flatten(),
            nn.Linear(32 * 4 * 4, FEATURES),
        )
        self.heads = nn.Linear(FEATURES, sum(HEADS.values()))

    def forward(self, pictures: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        features = self.body(pictures)
        return features, self.heads(torch.relu(features))


def read(folder: pathlib.Path) -> tuple[torch.Tensor, torch.Tensor]:
    """Returns pictures as bytes [N, 3, 64, 64] and labels [N, heads]."""
    with open(folder.with_suffix(".csv")) as file:
        rows = list(csv.DictReader(file))
    files = [folder / f"{row['picture']}.png" for row in rows]
    stacked = numpy.stack([numpy.asarray(Image.open(file).convert("RGB")) for file in files])
    labels = [[int(row[head]) for head in HEADS] for row in rows]
    # There are two to four other objects.
    offset = torch.tensor([2 * (head == "others") for head in HEADS])
    return torch.from_numpy(stacked).permute(0, 3, 1, 2).contiguous(), torch.tensor(labels) - offset


def disturb(batch: torch.Tensor) -> torch.Tensor:
    """Makes pictures a little soft and noisy, as decoded ones are."""
    soft = nn.functional.avg_pool2d(batch, 3, stride=1, padding=1, count_include_pad=False)
    share = torch.rand(len(batch), 1, 1, 1) * 0.6
    noise = torch.randn_like(batch) * torch.rand(len(batch), 1, 1, 1) * 0.1
    return torch.lerp(batch, soft, share) + noise


def right(judge: Judge, pictures: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Returns which answers are right, [N, heads]."""
    answers = []
    with torch.no_grad():
        for batch in pictures.split(256):
            logits = judge(batch.float() / 127.5 - 1)[1].split(list(HEADS.values()), dim=1)
            answers.append(torch.stack([one.argmax(1) for one in logits], dim=1))
    return torch.cat(answers) == labels


def train(judge: Judge, pictures: torch.Tensor, labels: torch.Tensor, epochs: int) -> None:
    steps = epochs * (len(pictures) // BATCH)
    optimizer = torch.optim.AdamW(judge.parameters(), LEARNING_RATE, weight_decay=1e-2)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, LEARNING_RATE, total_steps=steps)
    start = time.time()
    for epoch in range(epochs):
        order = torch.randperm(len(pictures))
        for chosen in order[: len(order) // BATCH * BATCH].split(BATCH):
            batch = disturb(pictures[chosen].float() / 127.5 - 1)
            logits = judge(batch)[1].split(list(HEADS.values()), dim=1)
            losses = map(nn.functional.cross_entropy, logits, labels[chosen].unbind(1))
            loss = sum(losses)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
        print(f"epoch {epoch} loss {loss.item():.4f} {time.time() - start:.0f} s", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("train", type=pathlib.Path)
    parser.add_argument("test", type=pathlib.Path)
    parser.add_argument("out", type=pathlib.Path)
    parser.add_argument("--epochs", type=int, default=10)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    judge = Judge()
    train(judge, *read(arguments.train), arguments.epochs)
    judge.eval()
    correct = right(judge, *read(arguments.test)).float()
    for head, share in zip(HEADS, correct.mean(0).tolist()):
        print(f"{head} {share:.4f}")
    print(f"all that captions can say {correct[:, :5].all(1).float().mean().item():.4f}")
    batch = torch.export.Dim("batch", min=1, max=65536)
    torch.onnx.export(
        judge,
        (torch.zeros(2, 3, 64, 64),),
        arguments.out,
        input_names=["pictures"],
        output_names=["features", "logits"],
        dynamic_shapes={"pictures": {0: batch}},
        external_data=False,
        dynamo=True,
    )


if __name__ == "__main__":
    main()
