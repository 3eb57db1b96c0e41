"""Taps: the outputs of submodules, all from one forward pass, pooled as declared."""

from __future__ import annotations

import pytest
import timm
import torch
from torch import nn

from fullrank.audit.models import architecture
from fullrank.audit.open import open_subject
from fullrank.audit.reference import calibrate, untrained
from fullrank.audit.subject import Options
from fullrank.audit.taps import block_names, tap_names
from fullrank.errors import UserError


def on(**changes):
    given = {"data": "digits", "limit": 12, "views": 1, "device": "cpu", "size": 32}
    return Options(**(given | changes))


def gathered(subject):
    blocks = list(subject.blocks())
    return {k: torch.cat([b[k][0] for b in blocks]) for k in blocks[0]}


VIT = "timm/vit_tiny_patch16_224"


@pytest.mark.parametrize(
    ("name", "first", "last", "count"),
    [
        (VIT, "blocks.0", "blocks.11", 12),
        ("timm/resnet10t", "layer1.0", "layer4.0", 4),
        ("timm/swin_tiny_patch4_window7_224", "layers.0.blocks.0", "layers.3.blocks.1", 12),
        ("timm/convnext_atto", "stages.0.blocks.0", "stages.3.blocks.1", 12),
        ("timm/efficientnet_b0", "blocks.0.0", "blocks.6.0", 16),
        ("torchvision/resnet18", "layer1.0", "layer4.1", 8),
        ("torchvision/swin_t", "features.1.0", "features.7.1", 12),
        ("torchvision/mobilenet_v2", "features.1", "features.17", 17),
        (
            "timm/densenet121",
            "features.denseblock1.denselayer1",
            "features.denseblock4.denselayer16",
            58,
        ),
        ("conv4", "0", "12", 13),
        ("resnet18", "layer1.0", "layer4.1", 8),
    ],
)
def test_blocks_are_those_that_the_backbone_repeats(name, first, last, count):
    built = architecture(name)
    side = built.side(None, 32, False)
    names = block_names(built.build(3, side, False).backbone)
    blocks = [n for n in names if "conv0" not in n]
    assert (blocks[0], blocks[-1], len(blocks)) == (first, last, count)


def test_taps_of_one_pass_are_those_of_a_pass_each():
    taps = ("layer1.0.bn1", "layer2", "layer4.1.conv2")
    subject = open_subject("torchvision/resnet18", on(taps=taps))
    found = gathered(subject)
    assert list(found) == [*taps, "backbone"]
    network = subject.network.backbone
    (view,) = (torch.cat(v) for v in zip(*subject.batches(), strict=True))
    for tap in taps:
        kept = []
        handle = network.get_submodule(tap).register_forward_hook(
            lambda m, i, o, kept=kept: kept.append(o.clone().mean((2, 3)))
        )
        with torch.no_grad():
            network(view)
        handle.remove()
        torch.testing.assert_close(found[tap], kept[0], rtol=1e-4, atol=1e-5)
        assert subject.conventions["pooling"][tap] == "grid"
    assert subject.conventions["pooling"]["backbone"] == "the model's own"
    assert not any(m._forward_hooks for m in network.modules())


def test_what_a_later_module_overwrites_is_kept():
    network = nn.Sequential(nn.Linear(4, 4), nn.ReLU(inplace=True), nn.Linear(4, 2))
    data = torch.randn(5, 4, generator=torch.Generator().manual_seed(0))
    expected = network[0](data).detach()
    found = gathered(open_subject(f"{__name__}:overwrites", Options(device="cpu", taps=("0",))))
    assert found["0"].min() < 0 and found["0"].shape == expected.shape


def overwrites():
    network = nn.Sequential(nn.Linear(4, 4), nn.ReLU(inplace=True), nn.Linear(4, 2))
    return network, [torch.randn(5, 4, generator=torch.Generator().manual_seed(0))]


@pytest.mark.parametrize("pool", [None, "mean", "cls", "flatten"])
def test_tokens_are_pooled_as_declared(pool):
    subject = open_subject(VIT, on(pool=pool, taps=("blocks.3",)))
    found = gathered(subject)
    network = subject.network.backbone
    (view,) = (torch.cat(v) for v in zip(*subject.batches(), strict=True))
    with torch.no_grad():
        x = network.forward_features(view)
        own = network(view)
    tokens = {"mean": x.mean(1), "cls": x[:, 0], "flatten": x.flatten(1), None: own}
    torch.testing.assert_close(found["backbone"], tokens[pool], rtol=1e-4, atol=1e-4)
    said = subject.conventions["pooling"]
    assert said["blocks.3"] == (pool or "mean")
    assert said["backbone"] == (pool or "the model's own")


def test_tokens_of_all_samples_are_rows_and_follow_each_other():
    subject = open_subject(VIT, on(level="tokens", taps=("blocks.0",)))
    found = gathered(subject)
    (view,) = (torch.cat(v) for v in zip(*subject.batches(), strict=True))
    with torch.no_grad():
        x = subject.network.backbone.forward_features(view)
    assert subject.conventions["tokens"] == {"blocks.0": 5, "backbone": 5}
    torch.testing.assert_close(found["backbone"], x.flatten(0, 1), rtol=1e-4, atol=1e-4)
    assert subject.labels is not None and len(subject.labels) == 12


def test_channels_last_features_are_pooled_over_positions():
    what = "timm/swin_tiny_patch4_window7_224"
    subject = open_subject(what, on(size=56, limit=2, taps=("layers.0",)))
    assert gathered(subject)["layers.0"].shape == (2, 96)
    assert subject.conventions["pooling"]["layers.0"] == "grid_last"
    tokens = gathered(open_subject(what, on(size=56, limit=2, pool="tokens", taps=("layers.0",))))
    assert tokens["layers.0"].shape == (2 * 14 * 14, 96)


def test_taps_that_do_not_exist_get_near_matches():
    network = timm.create_model("resnet10t", num_classes=0)
    with pytest.raises(UserError, match=r"taps: 'layer1\.0\.convv1'.*'layer1\.0\.conv1'"):
        tap_names(network, ["layer1.0.convv1"])
    network = timm.create_model("resnet10t", num_classes=0)
    assert tap_names(network, ["conv1", "blocks"]) == ["conv1", *block_names(network)]
    with pytest.raises(UserError, match="no sequence"):
        block_names(nn.Linear(2, 2))


def test_poolings_that_cannot_be_are_refused():
    with pytest.raises(UserError, match=r"pool: .*pool='cls' does not fit.*grid, grid_last"):
        gathered(open_subject("torchvision/resnet18", on(pool="cls", taps=("layer1",))))
    with pytest.raises(UserError, match=r"no layer of .* has tokens"):
        gathered(open_subject("torchvision/resnet18", on(level="tokens")))
    with pytest.raises(UserError, match="views"):
        open_subject("torchvision/resnet18", on(pool="views"))


def test_calibration_is_the_average_over_passes_and_leaves_dropout_off():
    torch.manual_seed(0)
    network = nn.Sequential(nn.Dropout(0.9), nn.Linear(3, 4), nn.BatchNorm1d(4)).eval()
    batches = [(torch.randn(8, 3), torch.randn(8, 3)) for _ in range(3)] + [(torch.ones(1, 3),)]
    assert calibrate([network], network, batches) == 24
    with torch.no_grad():
        outputs = [network[1](view) for views in batches[:3] for view in views]
    torch.testing.assert_close(
        network[2].running_mean, torch.stack([o.mean(0) for o in outputs]).mean(0)
    )
    torch.testing.assert_close(
        network[2].running_var, torch.stack([o.var(0) for o in outputs]).mean(0)
    )
    assert network[2].momentum == 0.1 and not network[2].training
    assert calibrate([nn.Linear(2, 2)], network, batches) == 0


def test_an_untrained_copy_keeps_nothing_learned():
    class Tokens(nn.Module):
        def __init__(self):
            super().__init__()
            self.position = nn.Parameter(torch.arange(100.0))
            self.linear = nn.Linear(3, 3)
            self.norm = nn.BatchNorm1d(3)

    module = Tokens()
    nn.init.constant_(module.linear.weight, 7.0)
    module.norm.running_mean.fill_(5)
    twin = untrained(module)
    assert twin.linear.weight.abs().max() < 1
    assert not torch.equal(twin.position, module.position)
    assert torch.equal(twin.position.sort().values, module.position)
    assert twin.norm.running_mean.abs().max() == 0
    assert module.norm.running_mean.min() == 5
