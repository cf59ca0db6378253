"""The page: offline, escaped, complete."""

import json
import re

from alloop.report.page import write_report
from alloop.results.compare import (
    compare_runs,
)
from tests.support.runs import write_run


def test_the_report_is_offline_escaped_and_equal_to_its_csv(tmp_path):
    evil = '</script><img src=x onerror="alert(1)">$x^{'
    write_run(tmp_path / "s" / "random_seed0", "random", 0, [0.1, 0.25], name=evil)
    write_run(tmp_path / "s" / "evil_seed0", evil, 0, [0.1, 0.5], name=evil)
    files = write_report(compare_runs([tmp_path / "s"]), tmp_path / "r.html", evil)
    assert [f.name for f in files] == ["r.html", "r.csv", "r.json", "r.png"]
    page = files[0].read_text()
    assert "<script" not in page
    assert not re.search(
        r'<img(?! src="data:image/jpeg;base64,[A-Za-z0-9+/=]+" alt="image \d+ with \d+ box(es)?">)', page
    )
    assert not re.search(r"""(src|href|url)\s*[=(]\s*["']?https?:""", page.replace("http://www.w3.org", ""))
    assert "default-src 'none'" in page
    assert "0.250" in page
    assert "0.250000" in files[1].read_text()
    assert len(page) < 5_000_000
    assert page == write_report(compare_runs([tmp_path / "s"]), tmp_path / "r.html", evil)[0].read_text()


def test_every_link_of_the_contents_leads_to_a_section_and_every_section_has_one(tmp_path):
    evil = '"><script>'
    write_run(tmp_path / "s" / "random_seed0", "random", 0, [0.1, 0.25])
    write_run(tmp_path / "s" / "evil_seed0", evil, 0, [0.1, 0.5])
    page = write_report(compare_runs([tmp_path / "s"]), tmp_path / "r.html", "a study")[0].read_text()
    contents = page[page.index("<nav") : page.index("</nav>")]
    links, sections = re.findall('href="#(.*?)"', contents), re.findall('<section id="(.*?)"', page)
    assert links == sections
    assert len(set(sections)) == len(sections) > 5
    assert sections[0] == "summary"
    assert all(re.fullmatch("[a-z0-9-]+", name) for name in sections)
    own = page.count('href="#') + page.count('href="data:')
    assert len(re.findall('href="', page)) == own, "a page links to itself alone"


def test_the_page_follows_dark_mode_width_and_paper(tmp_path):
    write_run(tmp_path / "s" / "random_seed0", "random", 0, [0.1, 0.25])
    page = write_report(compare_runs([tmp_path / "s"]), tmp_path / "r.html", "a run")[0].read_text()
    assert "prefers-color-scheme: dark" in page
    paper = page[page.index("@media print {") : page.index("</style>")]
    assert "nav, details, .save { display: none; }" in paper
    breaking = [rule.partition("{")[0] for rule in paper.split("}") if "anywhere" in rule or "break-all" in rule]
    assert [selector.strip() for selector in breaking] == ["pre"], "numbers in tables never break inside"


def test_the_page_holds_everything_and_says_what_it_lacks(study, tmp_path):
    files = write_report(compare_runs([study[0] / "name=fcos"]), tmp_path / "r.html", "a study")
    page, numbers = files[0].read_text(), json.loads(files[2].read_text())
    for part in (
        "Who beats whom",
        "Boxes per image bought",
        "Boxes bought by class",
        "Replicate noise",
        "Settings",
        "Run card",
    ):
        assert part in page
    assert page.count("data:image/jpeg") == 2 * (4 + 4)
    assert page.count('alt="image ') == 2 * (4 + 4)
    shown = f"{numbers['comparisons'][0]['difference']:+.3f}"
    assert f"<td>{shown}</td>" in page
    assert numbers["classes"]["strategies"][0]["strategy"] == "random"
    assert {c["strategy"] for c in numbers["counted_otherwise"]} == {"entropy"}
    write_run(tmp_path / "lost" / "random_seed0", "random", 0, [0.1, 0.2])
    lost = write_report(compare_runs([tmp_path / "lost"]), tmp_path / "l.html", "lost")[0].read_text()
    assert "The images could not be read" in lost
