"""The shipped backbone comes from its command."""


def test_the_shipped_backbone_comes_from_its_command():
    from pretrain_tiny import pretrain
    from safetensors.torch import load

    from alloop.detectors.torchvision.backbones import SHIPPED
    from alloop.progress import Progress

    made, shipped = load(pretrain(8, 2, Progress(quiet=True))), load(SHIPPED.read_bytes())
    assert {k: v.shape for k, v in made.items()} == {k: v.shape for k, v in shipped.items()}
    assert SHIPPED.stat().st_size < 1_000_000
