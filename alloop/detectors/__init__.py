"""Detectors behind one protocol; `TABLE` is the literal list of the built-in ones."""

TABLE = {
    "fcos": "alloop.detectors.torchvision.one_stage:fcos",
    "retinanet": "alloop.detectors.torchvision.one_stage:retinanet",
    "faster_rcnn": "alloop.detectors.torchvision.two_stage:faster_rcnn",
    "faster_rcnn_c4": "alloop.detectors.torchvision.two_stage:faster_rcnn_c4",
    "mask_rcnn": "alloop.detectors.torchvision.two_stage:mask_rcnn",
}
