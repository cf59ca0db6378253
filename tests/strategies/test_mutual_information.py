"""Every gain is the difference of the function's value."""

import numpy as np
import pytest

from strategies.mutual_information import FacilityLocation, GraphCut, LogDeterminant, PoolFacilityLocation


def kernel(seed, images=9, queries=3, width=5):
    random = np.random.default_rng(seed)
    vectors = random.normal(size=(images + queries, width)) + 1.5
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    whole = vectors @ vectors.T
    return whole[:images, :images], whole[images:, :images], whole[images:, images:]


def value(name, among, to_queries, of_queries, chosen, eta):
    """f(A) as it is defined."""
    chosen = list(chosen)
    if not chosen:
        return 0.0
    s = to_queries[:, chosen]
    if name == "gcmi":
        return 2 * s.sum()
    if name == "flqmi":
        return np.maximum(s.max(axis=1), 0).sum() + eta * s.max(axis=0).sum()
    if name == "flvmi":
        return np.minimum(np.maximum(among[:, chosen].max(axis=1), 0), eta * to_queries.max(axis=0)).sum()
    among_chosen = among[np.ix_(chosen, chosen)]
    given = among_chosen - eta**2 * s.T @ np.linalg.inv(of_queries) @ s
    return np.linalg.slogdet(among_chosen)[1] - np.linalg.slogdet(given)[1]


@pytest.mark.parametrize("name", ["gcmi", "flqmi", "flvmi", "logdetmi"])
@pytest.mark.parametrize("eta", [1.0, 0.4])
def test_gains_are_differences_of_the_information(name, eta):
    for seed in range(8):
        among, to_queries, of_queries = kernel(seed, width=14 if name == "logdetmi" else 5)
        information = {
            "gcmi": lambda q=to_queries: GraphCut(q),
            "flqmi": lambda q=to_queries: FacilityLocation(q, eta),
            "flvmi": lambda q=to_queries, a=among: PoolFacilityLocation(q, a, eta),
            "logdetmi": lambda q=to_queries, o=of_queries, a=among: LogDeterminant(q, o, a.__getitem__, eta),
        }[name]()
        chosen = []
        start = value(name, among, to_queries, of_queries, [], eta)
        for row in (4, 0, 7):
            now = value(name, among, to_queries, of_queries, chosen, eta) if chosen else start
            gains = information.gains()
            for other in set(range(9)) - set(chosen):
                after = value(name, among, to_queries, of_queries, [*chosen, other], eta)
                assert gains[other] == pytest.approx(after - now, abs=1e-5)
            information.take(row)
            chosen.append(row)
