"""XML is read without entities, in whatever encoding it comes."""

import pytest

from alloop.data.formats.table import annotation_format
from alloop.errors import DataError

VOC = """<?xml version="1.0" encoding="utf-16"?><!DOCTYPE a [<!ENTITY b "c.jpg">]>
<annotation><filename>&b;</filename><size><width>9</width><height>5</height></size></annotation>"""
CVAT = """<?xml version="1.0" encoding="utf-16"?><!DOCTYPE a [<!ENTITY b "c">]>
<annotations><image id="1" name="&b;.jpg" width="9" height="5"/></annotations>"""


@pytest.mark.parametrize(("kind", "text", "name"), [("voc", VOC, "c.xml"), ("cvat", CVAT, "annotations.xml")])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-16"])
def test_an_entity_is_refused_in_every_encoding(tmp_path, kind, text, name, encoding):
    (tmp_path / name).write_bytes(text.replace('encoding="utf-16"', f'encoding="{encoding}"').encode(encoding))
    with pytest.raises(DataError, match=rf"{name if kind == 'voc' else ''}.*entity"):
        annotation_format(kind, "test").read(tmp_path)


@pytest.mark.parametrize(("kind", "text", "name"), [("voc", VOC, "c.xml"), ("cvat", CVAT, "annotations.xml")])
def test_the_same_file_without_an_entity_is_read(tmp_path, kind, text, name):
    plain = text.replace('<!DOCTYPE a [<!ENTITY b "c.jpg">]>', "").replace('<!DOCTYPE a [<!ENTITY b "c">]>', "")
    (tmp_path / name).write_bytes(plain.replace("&b;", "c").encode("utf-16"))
    assert len(annotation_format(kind, "test").read(tmp_path).images) == 1
