"""The scores of a pruning as CSV: one row per image, or one per instance."""

from collections.abc import Iterator
from itertools import groupby
from operator import itemgetter
from typing import Any

from alloop.data.data_set import DataSet
from alloop.pruning.subset import Pruned
from alloop.tables import csv_text
from alloop.values import ImageId


def scores_csv(pruned: Pruned) -> str:
    """Return `image_id, score, rank, kept` of every ranked image, best first."""
    scored = zip(pruned.ranking.image_ids, pruned.scores, strict=True)
    rows = (
        (image_id, repr(float(score)), rank, int(rank <= pruned.count))
        for rank, (image_id, score) in enumerate(scored, start=1)
    )
    return csv_text(("image_id", "score", "rank", "kept"), rows)


def instances_csv(pruned: Pruned, dataset: DataSet) -> str:
    """Return `image_id, annotation_id, category_id, score` of every scored instance."""
    return csv_text(("image_id", "annotation_id", "category_id", "score"), _instance_rows(pruned, dataset))


def _instance_rows(pruned: Pruned, dataset: DataSet) -> Iterator[tuple[Any, ...]]:
    scores = pruned.instances
    assert scores is not None
    columns = zip(scores.image_ids.tolist(), scores.rows, scores.labels, scores.scores, strict=True)
    for image_id, instances in groupby(columns, key=itemgetter(0)):
        ids = dataset.annotations[ImageId(image_id)].ids  # looked up once per image, since it is decoded each time
        for _, row, label, score in instances:
            yield image_id, ids[row], dataset.category_ids[label], repr(float(score))
