"""`docs/config.md`: every key with its default and meaning, from the models themselves."""

from pydantic import BaseModel

from alloop.config.blocks import SemiSupervisedConfig, SplitConfig
from alloop.config.reading import ExperimentConfig


def config_reference() -> str:
    """The text of the file."""
    lines = [
        "# Every key of a config",
        "",
        "Made by `alloop.config.reference.config_reference()`; a test keeps it true.",
        "",
    ]
    for name, block in ExperimentConfig.model_fields.items():
        model = block.annotation
        if not (isinstance(model, type) and issubclass(model, BaseModel)):
            lines += [f"## {name}", "", f"A whole number, {block.default} by default.", ""]
            continue
        lines += [
            f"## {name}",
            "",
            f"{(model.__doc__ or '').strip()}",
            "",
            "| key | default | meaning |",
            "|---|---|---|",
        ]
        for key, field in model.model_fields.items():
            default = "required" if field.is_required() else f"`{_written(field.default)}`"
            default = "" if key == "rates" else default
            lines.append(f"| `{key}` | {default} | {field.description or ''} |")
        lines.append("")
    for title, inner in (("`semi_supervised` of the training", SemiSupervisedConfig),):
        lines += [f"{title}: {(inner.__doc__ or '').strip()}", "", "| key | default | meaning |", "|---|---|---|"]
        for key, field in inner.model_fields.items():
            lines.append(f"| `{key}` | `{_written(field.default)}` | {field.description or ''} |")
        lines.append("")
    lines += [
        "A split is `annotations`, `images` and `format`:",
        "",
        "| key | default | meaning |",
        "|---|---|---|",
    ]
    for key, field in SplitConfig.model_fields.items():
        default = "required" if field.is_required() else f"`{_written(field.default)}`"
        lines.append(f"| `{key}` | {default} | {field.description or 'coco, voc, yolo, cvat or label_studio'} |")
    return "\n".join(lines) + "\n"


def _written(value: object) -> str:
    if isinstance(value, tuple):
        return "[" + ", ".join(f"{item:.4g}" if isinstance(item, float) else str(item) for item in value) + "]"
    if isinstance(value, float):
        return f"{value:.4g}"
    return "null" if value is None else str(value).lower() if isinstance(value, bool) else str(value)
