"""`docs/config.md`: every key with its default and meaning, from the models and the plug-ins themselves."""

import dataclasses
from collections.abc import Iterator
from typing import Annotated, Any, get_args, get_origin, get_type_hints

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from alloop.budget.amounts import Amount
from alloop.config.blocks import block_class
from alloop.config.plugin_blocks import PluginBlock
from alloop.config.reading import ExperimentConfig
from alloop.plugins import load_class

Row = tuple[str, str, str]  # key, default, meaning


def config_reference() -> str:
    """Return the text of `docs/config.md`."""
    lines = [
        "# Every key of a config",
        "",
        "Made by `alloop.config.reference.config_reference()`; a test keeps it true.",
        "",
    ]
    for name, field in ExperimentConfig.model_fields.items():
        block = block_class(field.annotation)
        if block is None:
            lines += [f"## {name}", "", *_table([_row(name, field)])]
        else:
            lines += _block_lines(name, block, "##")
    return "\n".join(lines).rstrip() + "\n"


def _block_lines(name: str, block: type[BaseModel], heading: str) -> Iterator[str]:
    """Yield the section of a block, then those of the blocks in it and of the plug-ins that it can name."""
    yield from (f"{heading} {name}", "", _summary(block), "")
    yield from _table([_row(key, field) for key, field in block.model_fields.items()])
    inner = {key: model for key, field in block.model_fields.items() if (model := block_class(field.annotation))}
    inner = {key: model for key, model in inner.items() if model not in _top_level()}  # they have sections already
    for model in dict.fromkeys(inner.values()):
        keys = [f"{name}.{key}" for key, other in inner.items() if other is model]
        yield from _block_lines(", ".join(keys), model, f"{heading}#")
    for key, field in block.model_fields.items():
        if dataclasses.is_dataclass(field.annotation) and field.annotation is not Amount:
            yield from _dataclass_lines(f"{heading}# {name}.{key}", field.annotation)
    if issubclass(block, PluginBlock):
        for plugin in block.table:
            cls = load_class(block.kind, plugin, block.table)
            yield from _dataclass_lines(f"{heading}# {block.kind}: {plugin}", cls)


def _top_level() -> list[type[BaseModel] | None]:
    return [block_class(field.annotation) for field in ExperimentConfig.model_fields.values()]


def _dataclass_lines(heading: str, cls: Any) -> Iterator[str]:
    """Yield the section of a dataclass: a value with its own keys, or a plug-in, whose keys stand beside its name."""
    yield from (heading, "", _summary(cls), "")
    hints = get_type_hints(cls, include_extras=True)
    rows = []
    for field in dataclasses.fields(cls):
        missing = field.default is dataclasses.MISSING
        rows.append((field.name, "required" if missing else _code(field.default), _description(hints[field.name])))
    yield from _table(rows)


def _row(key: str, field: FieldInfo) -> Row:
    if field.is_required():
        return key, "required", field.description or ""
    default = field.get_default(call_default_factory=True, validated_data={})
    has_own_section = isinstance(default, BaseModel) or dataclasses.is_dataclass(default)
    return key, "" if has_own_section else _code(default), field.description or ""


def _table(rows: list[Row]) -> list[str]:
    if not rows:
        return []
    lines = [f"| `{key}` | {default} | {meaning} |" for key, default, meaning in rows]
    return ["| key | default | meaning |", "|---|---|---|", *lines, ""]


def _summary(cls: type) -> str:
    return " ".join((cls.__doc__ or "").split("\n\n")[0].split())


def _description(hint: Any) -> str:
    """Return the description that an `Annotated` type carries in its pydantic `Field`."""
    if get_origin(hint) is not Annotated:
        return ""
    descriptions = [item.description for item in get_args(hint)[1:] if isinstance(item, FieldInfo)]
    return next((description for description in descriptions if description), "")


def _code(value: object) -> str:
    return f"`{_written(value)}`"


def _written(value: object) -> str:
    if isinstance(value, tuple):
        return "[" + ", ".join(_written(item) for item in value) + "]"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float):
        return f"{value:.4g}"
    return "null" if value is None else str(value)
