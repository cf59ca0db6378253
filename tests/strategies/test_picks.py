"""Greedy picks are completed by images that were not picked."""

from strategies.picks import picks_and_rest


def test_unpicked_images_follow_in_their_order_with_the_smallest_utility():
    image_ids, utilities = picks_and_rest([50, 40, 30, 20, 10], [3, 0], [0.5, 2.0], 4)
    assert image_ids == (20, 50, 40, 30)
    assert utilities.tolist() == [0.5, 2.0, 0.5, 0.5]


def test_enough_picks_and_none():
    image_ids, utilities = picks_and_rest([50, 40], [1], [-1.0], 1)
    assert (image_ids, utilities.tolist()) == ((40,), [-1.0])
    image_ids, utilities = picks_and_rest([50, 40], [], [], 2)
    assert (image_ids, utilities.tolist()) == ((50, 40), [0.0, 0.0])
