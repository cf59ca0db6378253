"""Queries that several test files ask."""

import dataclasses

from alloop.testing import make_query


def query(**changes):
    """A query over 60 images with their hidden annotations."""
    return dataclasses.replace(make_query(truth=True), **changes)
