"""Parts of `gpu.py`: training and scoring of alloop against the bare loop."""

from typing import Any

from gpu_bench import Bench, trained
from gpu_peer import Clock, bare_model, bare_scoring, bare_training, loader

from alloop.data.pixels import PixelCache
from alloop.detectors.fitted import FittedTorchDetector

EPOCHS = 3  # of each measured training and of the bare loop's scoring; its first one is left out


class TimedDetector(FittedTorchDetector):
    """A fitted detector whose reading of images is counted as waiting."""

    clock: Clock

    def _pixels(self, image_id: Any) -> Any:
        return self.clock.waiting(lambda: FittedTorchDetector._pixels(self, image_id))


def training(bench: Bench, name: str) -> None:
    """Measure training: alloop in its first pass, which decodes, and in later ones; the bare loop without its first."""
    scale = bench.scale
    per_epoch = scale.images // scale.batch_size
    data = loader(bench.folder, "train", scale, name, training=True)
    for amp in bench.with_amp:
        experiment = bench.experiment(name, amp=amp)
        trained(experiment, bench.caches(experiment).training, per_epoch)  # warm up
        bench.peak()
        _, clock = trained(experiment, bench.caches(experiment).training, EPOCHS * per_epoch)
        ours_peak = bench.peak()
        model = bare_model(experiment.new_detector(0), name, scale)
        bare = bare_training(model, data, EPOCHS, bench.device, amp=amp, lr=experiment.config.training.lr)
        peer_peak = bench.peak()
        peer = _rate(bare, scale.batch_size, per_epoch)
        for pass_, first, last in (("first pass", 0, per_epoch), ("later passes", per_epoch, None)):
            ours = _rate(clock, scale.batch_size, first, last)
            label = f"{name}, AMP {'on' if amp else 'off'}, {pass_}"
            bench.row(label, **_compared(ours, peer), gib=ours_peak, peer_gib=peer_peak)
        del model


def scoring(bench: Bench, name: str) -> None:
    """Measure scoring with the weights of a short training: alloop while it decodes and from its cache."""
    scale, experiment = bench.scale, bench.experiment(name)
    caches = bench.caches(experiment)
    detector, _ = trained(experiment, caches.training, 2 * scale.images // scale.batch_size)
    model = bare_model(detector, name, scale)
    pool, ids = experiment.splits.train, sorted(experiment.splits.train.dataset.images)

    def fitted(cls: type[FittedTorchDetector], cache: PixelCache, *, amp: bool) -> Any:
        names, gives = pool.dataset.class_names, experiment.detector.gives
        size, device = scale.batch_size, bench.device
        return cls(detector, pool.images, cache, names, gives=gives, batch_size=size, device=device, amp=amp)

    data = loader(bench.folder, "train", scale, name, training=False)
    for amp in bench.with_amp:
        fitted(FittedTorchDetector, caches.pool, amp=amp).detections(ids)  # warm up
        timed = fitted(TimedDetector, bench.caches(experiment).pool, amp=amp)
        rates, peaks = {}, {}
        for pass_ in ("first pass", "later passes"):
            timed.clock = Clock(bench.device)
            bench.peak()
            found = timed.detections(ids)
            timed.clock.stop()
            rates[pass_], peaks[pass_] = _rate(timed.clock, 1, 0), bench.peak()
        bench.peak()
        clock = bare_scoring(model, data, EPOCHS, bench.device, amp=amp)
        peer, peer_peak = _rate(clock, scale.batch_size, len(data)), bench.peak()
        for pass_, ours in rates.items():
            label = f"{name}, AMP {'on' if amp else 'off'}, {pass_}"
            memory = {"gib": peaks[pass_], "peer_gib": peer_peak}
            bench.row(label, **_compared(ours, peer), **memory, detections=sum(map(len, found)) / len(ids))


def _rate(clock: Clock, images: int, first: int, last: int | None = None) -> tuple[float, float]:
    """Return images per second and the share of waiting between two inputs of `images` images each."""
    seconds, share = clock.between(first, last)
    steps = (clock.inputs if last is None else last) - first
    return images * steps / seconds, share


def _compared(ours: tuple[float, float], peer: tuple[float, float]) -> dict[str, Any]:
    return {
        "unit": "images/s",
        "alloop": round(ours[0], 2),
        "peer": round(peer[0], 2),
        "ratio": round(ours[0] / peer[0], 3),
        "waiting": round(ours[1], 3),
        "peer_waiting": round(peer[1], 3),
    }
