"""Watch a Hugging Face Trainer: a tiny text encoder, contrastive on generated text.

Nothing is about images: the two views of a sentence are the sentence with other words left out.
The text is generated, the encoder starts from random weights, nothing is downloaded.
"""

from __future__ import annotations

import argparse
import tempfile
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, normalize
from transformers import BertConfig, BertModel, PrinterCallback, Trainer, TrainingArguments

from fullrank.monitor.hugging_face import MonitorCallback
from fullrank.monitor.monitor import Monitor

LENGTH, MASK = 16, 1
TOPICS = {
    "weather": "rain wind cloud storm sun frost hail mist thunder snow breeze fog",
    "kitchen": "bread salt knife oven plate butter flour spoon kettle pepper sugar bowl",
    "music": "violin chord tempo choir drum flute melody opera rhythm cello note song",
    "sea": "harbour sail tide anchor whale reef captain deck wave island gull net",
}
GLUE = "the a of and in on with near under again soon never often we they".split()
WORDS = ["[pad]", "[mask]", *GLUE, *" ".join(TOPICS.values()).split()]


def sentences(count: int, seed: int) -> Tensor:
    """Return token ids of sentences, each about one topic, ``(count, LENGTH)``."""
    chance = torch.Generator().manual_seed(seed)

    def one_of(words: list[str]) -> str:
        return words[int(torch.randint(len(words), (), generator=chance))]

    rows = []
    for _ in range(count):
        topic = TOPICS[one_of(list(TOPICS))].split()
        rows.append([one_of(topic if place % 3 else GLUE) for place in range(LENGTH)])
    return torch.tensor([[WORDS.index(word) for word in row] for row in rows])


def masked(ids: Tensor, share: float = 0.3) -> Tensor:
    """Leave out some words of each sentence."""
    return torch.where(torch.rand(ids.shape) < share, MASK, ids)


class Contrastive(nn.Module):
    """A BERT encoder, whose mean token is the embedding, and the NT-Xent loss of two views.

    Args:
        temperature: of the loss.
    """

    def __init__(self, temperature: float) -> None:
        super().__init__()
        config = BertConfig(
            vocab_size=len(WORDS),
            hidden_size=32,
            num_hidden_layers=2,
            num_attention_heads=4,
            intermediate_size=64,
            max_position_embeddings=LENGTH,
        )
        self.bert = BertModel(config, add_pooling_layer=False)
        self.temperature = temperature

    def forward(self, input_ids: Tensor) -> dict[str, Tensor]:
        """Return the loss and the embeddings of both views."""
        z = [
            normalize(self.bert(input_ids=masked(input_ids)).last_hidden_state.mean(1))
            for _ in range(2)
        ]
        similar = z[0] @ z[1].T / self.temperature
        return {"loss": cross_entropy(similar, torch.arange(len(similar)))}


def main(steps: int = 100, temperature: float = 0.1) -> Monitor:
    """Train, print what the monitor sees, and return it.

    Args:
        steps: optimiser steps.
        temperature: of the loss.
    """
    torch.manual_seed(0)
    held_out = sentences(256, seed=1)
    monitor = Monitor(
        taps={"embedding": "bert:last_hidden_state"},
        pool="mean",
        probe=[tuple({"input_ids": masked(part)} for _ in range(2)) for part in held_out.split(64)],
        forward=lambda model, view: model.bert(**view),
        budget=0.2,
    )
    with tempfile.TemporaryDirectory() as folder:
        arguments: dict[str, Any] = {"disable_tqdm": True, "report_to": "none", "use_cpu": True}
        trainer = Trainer(
            Contrastive(temperature),
            TrainingArguments(
                folder,
                max_steps=steps,
                per_device_train_batch_size=64,
                learning_rate=2e-3,
                save_strategy="no",
                logging_strategy="no",
                **arguments,
            ),
            train_dataset=[{"input_ids": row} for row in sentences(1024, seed=0)],
        )
        trainer.remove_callback(PrinterCallback)
        MonitorCallback(monitor).add_to(trainer)
        trainer.train()
    for line in trainer.state.log_history:
        if "fullrank/embedding/spread" in line:
            values = (line[f"fullrank/embedding/{n}"] for n in ("spread", "effective_rank"))
            print(f"step {line['step']}: spread {{:.3f}}  effective rank {{:.1f}}".format(*values))
    verdict = monitor.verdict()["embedding"]
    print(f"embedding: {verdict.kind}")
    print("\n".join(f"  {sentence}" for sentence in verdict.evidence))
    return monitor


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=100)
    parser.add_argument("--temperature", type=float, default=0.1)
    given = parser.parse_args()
    main(given.steps, given.temperature)
