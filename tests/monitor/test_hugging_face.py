"""The Hugging Face callback, on a tiny text encoder with random weights and made-up token ids."""

from __future__ import annotations

import json

import pytest
import torch
from torch import nn

from fullrank.randomness import generator

transformers = pytest.importorskip("transformers")
pytest.importorskip("accelerate")
pytestmark = pytest.mark.filterwarnings("ignore")  # of the trainer, about its dependencies
KEY = "fullrank/embedding/effective_rank"


class Model(nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        config = transformers.BertConfig(
            vocab_size=50,
            hidden_size=16,
            num_hidden_layers=1,
            num_attention_heads=2,
            intermediate_size=16,
            max_position_embeddings=8,
        )
        self.bert = transformers.BertModel(config, add_pooling_layer=False)

    def forward(self, input_ids, labels=None):
        z = self.bert(input_ids=input_ids).last_hidden_state
        return {"loss": z.mean(1).square().mean(), "hidden": z}


def ids(n, seed):
    return torch.randint(50, (n, 8), generator=generator(seed, "text"))


class Tracker(transformers.TrainerCallback):
    def __init__(self):
        self.keys = set()

    def on_log(self, args, state, control, logs=None, **kwargs):
        self.keys |= set(logs)


def trainer(folder, steps, tracker=None):
    from fullrank.monitor.hugging_face import MonitorCallback

    arguments = transformers.TrainingArguments(
        str(folder),
        max_steps=steps,
        per_device_train_batch_size=8,
        eval_strategy="steps",
        eval_steps=2,
        save_steps=2,
        logging_steps=2,
        load_best_model_at_end=True,
        metric_for_best_model=KEY,
        greater_is_better=True,
        report_to="none",
        disable_tqdm=True,
        use_cpu=True,
        learning_rate=0.05,
    )
    rows = [{"input_ids": row, "labels": 0} for row in ids(64, 1)]
    found = transformers.Trainer(
        Model(),
        arguments,
        train_dataset=rows,
        eval_dataset=rows[:8],
        callbacks=[tracker] if tracker else [],
    )
    callback = MonitorCallback(
        taps={"embedding": "bert:last_hidden_state"},
        pool="mean",
        probe=[{"input_ids": ids(48, 2)}, {"input_ids": ids(48, 3)}],
        budget=1,
    ).add_to(found)
    return found, callback.monitor


def test_readings_choose_the_best_model_and_state_goes_on(tmp_path, capsys):
    tracker = Tracker()
    first, monitor = trainer(tmp_path, 6, tracker)
    first.train()
    steps = [checkup["step"] for checkup in monitor.history]
    assert steps[0] == 0 and steps[-1] == 6
    logged = {line["step"]: line[KEY] for line in first.state.log_history if KEY in line}
    assert list(logged) == steps
    assert KEY in tracker.keys  # a callback that was there before sees it, too
    rank_then = {c["step"]: c["layers"]["embedding"]["effective_rank"] for c in monitor.history}
    assert first.state.best_metric in rank_then.values()
    state = json.loads((tmp_path / "checkpoint-6/trainer_state.json").read_text())
    assert state["stateful_callbacks"]["fullrank.Monitor"]["steps"] == 6

    second, again = trainer(tmp_path, 8)
    second.train(resume_from_checkpoint=str(tmp_path / "checkpoint-6"))
    assert again.history[: len(monitor.history)] == monitor.history
    assert again.history[-1]["step"] == 8
    assert [c["step"] for c in again.history].count(0) == 1


def test_early_stopping_finds_the_key_when_it_comes_after(tmp_path, capsys):
    found, _ = trainer(tmp_path, 40)
    found.add_callback(transformers.EarlyStoppingCallback(early_stopping_patience=1))
    found.train()
    assert found.state.global_step < 40
