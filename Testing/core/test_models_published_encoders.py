"""Radiograph encoders load published formats exactly; what is missing or differs is named."""

import json
from pathlib import Path

import pytest
import torch

from xray2ctpa_core.errors import BundleError, InputError
from xray2ctpa_core.metrics.perceptual import RadImageNetDistance, perceptual_distance
from xray2ctpa_core.models.classifiers.radiograph_classifier import RadiographClassifier
from xray2ctpa_core.models.classifiers.slice_classifier import SliceClassifier
from xray2ctpa_core.models.encoders.published import PublishedEncoder, published_encoder
from xray2ctpa_core.models.encoders.radimagenet import resnet50
from xray2ctpa_core.models.weights import load_tensors, save_tensors
from xray2ctpa_core.pipelines.encoders import PUBLISHED, load_published_encoder, make_encoder
from xray2ctpa_core.pipelines.loading import OFFLINE_FOLDERS_VARIABLE
from xray2ctpa_core.training.settings.classifiers import EncoderSettings

SMALL = {"init_features": 8, "growth_rate": 4, "block_config": (2, 2)}
CHILDREN = ("conv1", "bn1", "relu", "maxpool", "layer1", "layer2", "layer3", "layer4")


def write_radimagenet(folder: Path, layers: tuple[int, ...]) -> torch.nn.Module:
    """A ResNet's file as RadImageNet publishes it, and the network."""
    pytest.importorskip("torchvision", reason="ResNet-50 comes with the training extra")
    torch.manual_seed(0)
    network = resnet50(layers).eval()
    state = {
        f"backbone.{CHILDREN.index(name.split('.')[0])}.{name.split('.', 1)[1]}": tensor
        for name, tensor in network.state_dict().items()
    }
    torch.save(state, folder / "ResNet50.pt")
    return network


def write_clip(folder: Path) -> torch.nn.Module:
    """A small image tower in BiomedCLIP's files, and the tower."""
    timm_model = pytest.importorskip("open_clip.timm_model", reason="the clip extra")
    tower = timm_model.TimmModel("vit_tiny_patch16_224", 512, 224, pool="", proj="linear").eval()
    vision = {
        "timm_model_name": "vit_tiny_patch16_224",
        "timm_pool": "",
        "timm_proj": "linear",
        "image_size": 224,
    }
    config = {"model_cfg": {"embed_dim": 512, "vision_cfg": vision, "text_cfg": {}}, "preprocess_cfg": {}}
    (folder / "open_clip_config.json").write_text(json.dumps(config))
    state = {f"visual.{name}": tensor for name, tensor in tower.state_dict().items()}
    torch.save({**state, "text.weight": torch.zeros(3), "logit_scale": torch.zeros(())},
               folder / "open_clip_pytorch_model.bin")  # fmt: skip
    return tower


def test_biomedclips_image_tower_is_read_from_its_own_files(tmp_path: Path) -> None:
    tower = write_clip(tmp_path)
    encoder = load_published_encoder("biomedclip", str(tmp_path))
    radiograph = torch.rand(2, 1, 48, 48)
    with torch.no_grad():
        resized = torch.nn.functional.interpolate(radiograph, (224, 224), mode="bilinear", antialias=True)
        assert torch.allclose(encoder(radiograph), tower(resized.expand(-1, 3, -1, -1)), atol=1e-5)
    assert encoder(radiograph).shape == (2, 512)
    state = torch.load(tmp_path / "open_clip_pytorch_model.bin", weights_only=True)
    torch.save(
        {k: v for k, v in state.items() if "blocks.0" not in k}, tmp_path / "open_clip_pytorch_model.bin"
    )
    with pytest.raises(BundleError, match=r"missing: trunk\.blocks\.0"):
        load_published_encoder("biomedclip", str(tmp_path))


def test_dinov2_is_read_from_its_own_files(tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers", reason="the training extra")
    config = transformers.Dinov2Config(
        hidden_size=16, num_hidden_layers=1, num_attention_heads=2, image_size=28, patch_size=14
    )
    network = transformers.Dinov2Model(config).eval()
    network.save_pretrained(tmp_path)
    encoder = load_published_encoder("dinov2", str(tmp_path))
    radiograph = torch.rand(1, 1, 28, 28)
    with torch.no_grad():
        expected = network(pixel_values=radiograph.expand(-1, 3, -1, -1)).pooler_output
        assert torch.allclose(encoder(radiograph), expected, atol=1e-6)
    config.num_hidden_layers = 2
    config.save_pretrained(tmp_path)
    with pytest.raises(BundleError, match=r"missing: encoder\.layer\.1"):
        load_published_encoder("dinov2", str(tmp_path))


def test_radimagenets_resnet_is_read_by_its_published_names(tmp_path: Path) -> None:
    network = write_radimagenet(tmp_path, (3, 4, 6, 3))
    encoder = load_published_encoder("radimagenet-resnet50", str(tmp_path))
    radiograph = torch.rand(1, 1, 224, 224)
    with torch.no_grad():
        assert torch.allclose(encoder(radiograph), network(radiograph.expand(-1, 3, -1, -1)), rtol=1e-3)
    assert sum(p.numel() for p in encoder.parameters()) == 23_508_032


def test_the_papers_perceptual_distance_is_zero_for_equal_slices_and_has_a_gradient(tmp_path: Path) -> None:
    write_radimagenet(tmp_path, (1, 1, 1, 1))
    distance = RadImageNetDistance(tmp_path, (1, 1, 1, 1)).train()
    slices = (torch.rand(2, 1, 32, 32) * 2 - 1).requires_grad_()
    assert distance(slices, slices).abs().max() == 0
    distance(slices, slices.detach().flip(-1)).sum().backward()
    assert slices.grad is not None
    assert slices.grad.abs().max() > 0
    assert all(p.grad is None for p in distance.parameters())
    with pytest.raises(InputError, match="without weights"):
        perceptual_distance("radimagenet")


def test_an_encoder_is_looked_for_offline_first_and_then_at_its_pinned_commit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []

    def no_network(repo: str, revision: str, allow_patterns: list[str]) -> str:
        asked.append(f"{repo}@{revision}")
        raise ConnectionError("no route")

    monkeypatch.setattr("huggingface_hub.snapshot_download", no_network)
    with pytest.raises(BundleError, match=r"Cannot fetch encoder facebook/dinov2-base at revision f9e44c8"):
        load_published_encoder("dinov2")
    assert asked == ["facebook/dinov2-base@f9e44c814b77203eaa57a6bdbbd535f21ede1415"]
    with pytest.raises(BundleError, match="pinned revision"):
        load_published_encoder("biomedclip", "microsoft/BiomedCLIP")
    name = PUBLISHED["biomedclip"][0]
    (tmp_path / name).mkdir(parents=True)
    write_clip(tmp_path / name)
    monkeypatch.setenv(OFFLINE_FOLDERS_VARIABLE, str(tmp_path))
    assert load_published_encoder("biomedclip").embedding_dim == 512
    assert len(asked) == 1


def test_missing_weights_are_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="needs its weights"):
        load_published_encoder("radimagenet-resnet50")
    with pytest.raises(InputError, match=r"pretrained weights at .*ResNet50\.pt, which is no file"):
        load_published_encoder("radimagenet-resnet50", str(tmp_path))
    with pytest.raises(InputError, match=r"at .*open_clip_config\.json"):
        load_published_encoder("biomedclip", str(tmp_path))
    with pytest.raises(InputError, match="found none"):
        published_encoder("small", tmp_path)
    with pytest.raises(InputError, match="got 'resnet'"):
        load_published_encoder("resnet")


def test_a_small_encoder_comes_back_as_it_was_and_a_frozen_one_stays_in_evaluation(tmp_path: Path) -> None:
    config = EncoderSettings(small_dim=16, small_features=8, small_growth=4, small_blocks=(2, 2))
    encoder = make_encoder(config).eval()
    encoder.save_pretrained(tmp_path)
    again = make_encoder(EncoderSettings(encoder_weights=str(tmp_path), frozen_encoder=True))
    radiograph = torch.rand(2, 1, 32, 32)
    assert torch.equal(encoder(radiograph), again(radiograph))
    classifier = RadiographClassifier(again).train()
    assert classifier.head.training
    assert not classifier.encoder.training
    with pytest.raises(BundleError, match="encoder dinov2"):
        load_published_encoder("dinov2", str(tmp_path))


def test_slices_are_read_in_order_and_weights_come_back(tmp_path: Path) -> None:
    torch.manual_seed(0)
    classifier = SliceClassifier(PublishedEncoder("small", SMALL, 16), hidden=4).eval()
    volume = torch.rand(2, 1, 6, 32, 32)
    logits = classifier(volume)
    assert logits.shape == (2, 1)
    assert not torch.allclose(logits, classifier(volume.roll(2, 2)))
    save_tensors(classifier, tmp_path / "w.safetensors")
    other = SliceClassifier(PublishedEncoder("small", SMALL, 16), hidden=4).eval()
    load_tensors(other, tmp_path / "w.safetensors")
    assert torch.equal(other(volume), logits)
    with pytest.raises(BundleError, match="shapes"):
        load_tensors(
            SliceClassifier(PublishedEncoder("small", SMALL, 16), hidden=8), tmp_path / "w.safetensors"
        )
