"""The closed sets of names that a config may use: each name with the import path of its plug-in.

A plug-in of one's own is named by its import path `package.module:Name` instead, but for class balance. Query
strategies have their table in `strategies`, annotation formats theirs in `alloop.data.formats`.
"""

NETWORKS = {
    "fcos": "alloop.detectors.torchvision.catalogue:FCOS",
    "retinanet": "alloop.detectors.torchvision.catalogue:RetinaNet",
    "faster_rcnn": "alloop.detectors.torchvision.catalogue:FasterRCNN",
    "faster_rcnn_c4": "alloop.detectors.torchvision.catalogue:FasterRCNNC4",
    "mask_rcnn": "alloop.detectors.torchvision.catalogue:MaskRCNN",
}
"""The detectors that alloop trains itself."""

CLASSIFIERS = {"classifier": "alloop.detectors.classification.catalogue:Classifier"}
"""The networks that give an image one class (`task: classification`)."""

DETECTORS = {**NETWORKS, **CLASSIFIERS, "external": "alloop.detectors.external:External"}

ORACLES = {
    "simulated": "alloop.oracles.simulated:Simulated",
    "folder": "alloop.oracles.folder:Folder",
    "label_studio": "alloop.oracles.label_studio:LabelStudio",
}

TRACKERS = {
    "csv": "alloop.trackers.csv_file:Csv",
    "tensorboard": "alloop.trackers.tensorboard:TensorBoard",
    "mlflow": "alloop.trackers.mlflow:MLflow",
    "wandb": "alloop.trackers.wandb:WandB",
}

CLASS_BALANCE = {
    "logit_adjustment": "alloop.config.class_balance:LogitAdjustment",
    "classifier_retraining": "alloop.config.class_balance:ClassifierRetraining",
    "equalization_loss": "alloop.config.class_balance:EqualizationLoss",
}
