"""Weights of others: found wherever they lie in a file, loaded whole, or refused with a count."""

from __future__ import annotations

import os

import lightning
import pytest
import timm
import torch
from safetensors.torch import save_file
from torch import nn

from fullrank.audit.checkpoints import load_matching, read_weights
from fullrank.audit.open import open_subject
from fullrank.audit.subject import Options
from fullrank.errors import UserError

NAME = "resnet10t"


def backbone(name=NAME, seed=3, **options):
    torch.manual_seed(seed)
    return timm.create_model(name, num_classes=0, **options)


def on(**changes):
    return Options(
        data="digits", limit=16, device="cpu", backbone=f"timm/{NAME}", size=32, **changes
    )


class Theirs(lightning.LightningModule):
    """Somebody's module: an online network, a head, and a momentum copy with other weights."""

    def __init__(self):
        super().__init__()
        self.online = nn.ModuleDict({"encoder": backbone(), "head": nn.Linear(512, 8)})
        self.momentum = nn.ModuleDict({"encoder": backbone(seed=4)})


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """The same weights in every kind of file."""
    folder = tmp_path_factory.mktemp("weights")
    weights = backbone().state_dict()
    trainer = lightning.Trainer(
        logger=False, enable_checkpointing=False, accelerator="cpu", enable_progress_bar=False
    )
    trainer.strategy.connect(Theirs())
    trainer.save_checkpoint(folder / "lightning.ckpt")
    torch.save(weights, folder / "plain.pth")
    torch.save({"epoch": 3, "model": weights}, folder / "under-model.pt")
    torch.save({f"module.{k}": v for k, v in weights.items()}, folder / "data-parallel.pt")
    torch.save({**weights, "fc.weight": torch.zeros(5, 512)}, folder / "with-classifier.pt")
    save_file(weights, folder / "plain.safetensors")
    return folder


@pytest.mark.parametrize(
    ("name", "prefix"),
    [
        ("lightning.ckpt", "state_dict: online.encoder."),
        ("plain.pth", ""),
        ("under-model.pt", "model: "),
        ("data-parallel.pt", "module."),
        ("with-classifier.pt", ""),
        ("plain.safetensors", ""),
    ],
)
def test_the_backbones_weights_are_found_under_any_prefix(files, name, prefix):
    subject = open_subject(str(files / name), on())
    assert subject.kind == "checkpoint"
    loaded = subject.network.backbone.state_dict()
    assert all(torch.equal(v, loaded[k]) for k, v in backbone().state_dict().items())
    assert subject.conventions["prefix"].strip() == prefix.strip()
    (block,) = subject.blocks()
    assert block["backbone"][0].shape == (16, 512)


def test_a_momentum_copy_is_named_and_can_be_chosen(files):
    path = str(files / "lightning.ckpt")
    assert open_subject(path, on()).conventions["other_prefixes"] == ["momentum.encoder."]
    chosen = open_subject(path, on(key=("momentum.encoder",)))
    loaded = chosen.network.backbone.state_dict()
    assert all(torch.equal(v, loaded[k]) for k, v in backbone(seed=4).state_dict().items())


def test_weights_option_of_a_named_model_is_a_checkpoint(files):
    options = Options(data="digits", limit=16, device="cpu", weights=str(files / "plain.pth"))
    subject = open_subject(f"timm/{NAME}", options)
    loaded = subject.network.backbone.state_dict()
    assert all(torch.equal(v, loaded[k]) for k, v in backbone().state_dict().items())


def test_the_twin_of_a_checkpoint_has_other_weights(files):
    subject = open_subject(str(files / "plain.pth"), on())
    twin = subject.reference()
    name = "conv1.0.weight"
    assert not torch.equal(
        subject.network.backbone.state_dict()[name], twin.network.backbone.state_dict()[name]
    )
    assert twin.conventions["weights"] == "random"


def test_grey_weights_are_recognised(tmp_path):
    torch.save(backbone(in_chans=1).state_dict(), tmp_path / "grey.pt")
    subject = open_subject(str(tmp_path / "grey.pt"), on())
    assert subject.conventions["channels"] == 1


def test_weights_that_do_not_fit_are_counted_and_named(files):
    for name, says in (
        ("torchvision/resnet18", "are missing"),
        ("timm/resnet14t", "have another shape|are missing"),
        ("conv4", "of the 24 of the backbone, 9 are missing"),
    ):
        options = Options(data="digits", device="cpu", backbone=name)
        with pytest.raises(UserError, match=says):
            open_subject(str(files / "plain.pth"), options)


def test_a_part_of_a_deeper_network_is_refused():
    deep = nn.ModuleDict({"blocks": nn.Sequential(*(nn.Linear(3, 3) for _ in range(4)))})
    shallow = nn.ModuleDict({"blocks": nn.Sequential(*(nn.Linear(3, 3) for _ in range(2)))})
    with pytest.raises(UserError, match=r"4 are too many \(blocks\.2\.weight"):
        load_matching(shallow, deep.state_dict(), "deep")
    around = {f"student.{k}": v for k, v in deep.state_dict().items() if k != "blocks.1.bias"}
    with pytest.raises(UserError, match=r"1 are missing \(blocks\.1\.bias\).*'student\.'"):
        load_matching(deep, around, "around")


class Marks:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (os.mkdir, (str(self.path),))


def test_a_checkpoint_that_needs_more_than_tensors_runs_nothing_unless_trusted(tmp_path):
    mark, path = tmp_path / "ran", tmp_path / "a.ckpt"
    torch.save({"state_dict": backbone().state_dict(), "callbacks": Marks(mark)}, path)
    with pytest.raises(UserError, match=r"run any code\. It asks for \w+\.mkdir\. Allowed"):
        open_subject(str(path), on())
    assert not mark.exists()
    subject = open_subject(str(path), on(trust=True))
    assert mark.exists() and subject.conventions["trust"]


def test_files_without_weights_are_named(tmp_path, files):
    torch.save({"epoch": 3}, tmp_path / "a.pt")
    with pytest.raises(UserError, match=r"no weights.* it holds epoch"):
        read_weights(tmp_path / "a.pt", False)
    torch.save([1, 2], tmp_path / "b.pt")
    with pytest.raises(UserError, match="holds list"):
        read_weights(tmp_path / "b.pt", False)
    content = (files / "plain.pth").read_bytes()
    (tmp_path / "c.ckpt").write_bytes(content[: len(content) // 2])
    with pytest.raises(UserError, match="truncated"):
        open_subject(str(tmp_path / "c.ckpt"), on())
    (tmp_path / "d.ckpt").touch()
    with pytest.raises(UserError, match="empty"):
        open_subject(str(tmp_path / "d.ckpt"), on())
    with pytest.raises(UserError, match="backbone: none given"):
        open_subject(str(tmp_path / "d.ckpt"), Options())
    with pytest.raises(UserError, match="give backbone"):
        open_subject(str(files / "plain.safetensors"), Options())
