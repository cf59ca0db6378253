"""Which image an address means: every kind of address, and what is found only among the images that are there."""

import base64
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from alloop.data.formats.format import NO_HINTS, Hints
from alloop.data.formats.label_studio_names import ImageNames, address_of, names_of
from alloop.data.image_index import index_of_records
from alloop.data.notes import Notes
from alloop.errors import DataError
from alloop.values import ImageId, ImageRecord

RESOLVED = base64.b64encode(b"s3://bucket/day/a.jpg").decode()


def images(*names):
    return Hints(index_of_records([ImageRecord(ImageId(k), name, 4, 4) for k, name in enumerate(names)], "photos"))


def found(address, hints=NO_HINTS, notes=None):
    return ImageNames(hints, "", notes or Notes()).name_in({"image": address}, "task 1")


@pytest.mark.parametrize(
    ("address", "name"),
    [
        ("a.jpg", "a.jpg"),
        ("day/my photo.jpg", "day/my photo.jpg"),
        ("/data/local-files/?d=sub/my%20photo.jpg", "sub/my photo.jpg"),
        ("/data/local-files/?d=/sub/caf%C3%A9.jpg", "sub/café.jpg"),
        ("http://localhost:8080/data/local-files/?d=sub%2Fa%2Bb%23.jpg", "sub/a+b#.jpg"),
        ("/data/local-files/?x=1&d=a%26b.jpg", "a&b.jpg"),
        ("/data/upload/3/0123abcd-my_photo.jpg", "my_photo.jpg"),
        ("https://host/label/data/upload/3/0123abcd-a.jpg", "a.jpg"),
        ("/data/upload/3/0123ABCD-a.jpg", "0123ABCD-a.jpg"),
        ("/data/upload/3/0123abcd-", "0123abcd-"),
        ("https://host/day/a%20b.jpg?v=1#top", "day/a b.jpg"),
        ("s3://bucket/day/what?.jpg", "day/what?.jpg"),
        ("gs://bucket/a%20b.jpg", "a b.jpg"),
        ("file:///home/ann/a.jpg", "home/ann/a.jpg"),
        (f"/tasks/7/resolve/?fileuri={quote(RESOLVED)}", "day/a.jpg"),
        ("C:\\photos\\a.jpg", "C:\\photos\\a.jpg"),
        ("http://[broken/a.jpg", "http://[broken/a.jpg"),
    ],
)
def test_an_address_without_known_images_means_one_name(address, name):
    assert found(address) == name


@pytest.mark.parametrize(
    ("address", "there", "name"),
    [
        ("/data/local-files/?d=my+photo.jpg", "my photo.jpg", "my photo.jpg"),
        ("/data/local-files/?d=my+photo.jpg", "my+photo.jpg", "my+photo.jpg"),
        ("/data/local-files/?d=a%20b.jpg", "a%20b.jpg", "a%20b.jpg"),
        ("/data/upload/3/0123abcd-a.jpg", "0123abcd-a.jpg", "0123abcd-a.jpg"),
        ("/data/upload/3/0123abcd-a.jpg", "deep/a.jpg", "a.jpg"),
        ("/data/upload/3/0123abcd-a.jpg", "b.jpg", "0123abcd-a.jpg"),  # as it is written, for the message
        ("sub/my%20photo.jpg", "sub/my photo.jpg", "sub/my photo.jpg"),
        ("/data/upload/3/0123abcd-my_photo_1.jpg", "day/my photo (1).jpg", "day/my photo (1).jpg"),
        ("/data/upload/3/0123abcd-my_photo_1.jpg", "day/my photo (2).jpg", "0123abcd-my_photo_1.jpg"),
        ("/data/local-files/?d=raw/day/a.jpg", "day/a.jpg", "raw/day/a.jpg"),
    ],
)
def test_of_several_names_the_one_that_is_there_is_meant(address, there, name):
    assert found(address, images("other.jpg", there)) == name


def test_characters_that_an_upload_changed_are_noted_and_never_guessed():
    notes = Notes()
    assert found("/data/upload/3/0123abcd-my_photo_1.jpg", images("my photo 1.jpg"), notes) == "my photo 1.jpg"
    assert found("/data/upload/3/0123abcd-my_photo.jpg", images("my_photo.jpg"), notes) == "my_photo.jpg"
    assert [note.count for note in notes.listed()] == [1]
    with pytest.raises(DataError, match=r"may mean 'my\(photo.jpg', 'my\+photo.jpg'"):
        found("/data/upload/3/0123abcd-myphoto.jpg", images("my+photo.jpg", "my(photo.jpg"))


@given(st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1).filter(lambda t: t.strip("/ ") == t))
def test_every_name_survives_quoting_as_a_local_file(name):
    for prefix in ("/data/local-files/?d=", "http://host:8080/data/local-files/?d="):
        assert names_of(prefix + quote(name))[0] == name


@pytest.mark.parametrize(
    ("data", "key", "address"),
    [
        ({"alloop_id": 1, "file_name": "b", "image": "/data/upload/1/0123abcd-1_b.jpg"}, "", "b"),
        ({"title": "A walk", "img": "a.jpg", "url": "b.png"}, "", "a.jpg"),
        ({"thumb": "t.jpg", "image": "a.jpg"}, "", "a.jpg"),
        ({"image": "a.jpg", "photo": "b.JPEG"}, "photo", "b.JPEG"),
        ({"image": "scan 12", "n": 3}, "", "scan 12"),
        ({"text": "see a.txt", "picture": "https://host/x.webp?sig=1.2"}, "", "https://host/x.webp?sig=1.2"),
        ({"photo": "/data/local-files/?d=scan"}, "", "/data/local-files/?d=scan"),
        ({"images": ["a.jpg"], "cover": "c.png"}, "", "c.png"),
    ],
)
def test_the_image_is_the_first_value_that_looks_like_one(data, key, address):
    assert address_of(data, key) == address


@pytest.mark.parametrize(
    ("data", "words"),
    [
        ({}, r"no key of its data names an image \(there is none\)"),
        ({"text": "hello", "n": 3}, r"names an image \('text', 'n'\); add one"),
        ({"pages": ["a.jpg", "b.jpg"]}, r"data\.pages names several images"),
    ],
)
def test_data_without_one_image_are_refused(data, words):
    with pytest.raises(ValueError, match=words):
        address_of(data)
