"""Hook of mkdocs: show some files of the repository that lie outside docs/, and make links between all of them work.

In the repository every link is relative to the file it stands in, so it works where the files are read. The site has
another layout: what lies in docs/ is its root, and source files are not part of it. Links are rewritten accordingly,
and a link to a file that the site does not show becomes plain text.
"""

import posixpath
import re
from pathlib import Path
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).parents[1]
OUTSIDE = ["CHANGELOG.md", "CONTRIBUTING.md", "SECURITY.md", "benchmarks/results/*.md", "benchmarks/results/*.csv"]
LINK = re.compile(r"(!?)\[([^\]]*)\]\(([^)#:\s]+)(#[^)\s]*)?\)")


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the files of `OUTSIDE` under their own paths."""
    for pattern in OUTSIDE:
        for path in sorted(ROOT.glob(pattern)):
            files.append(File.generated(config, path.relative_to(ROOT).as_posix(), abs_src_path=str(path)))
    return files


def on_page_markdown(markdown: str, page: Page, files: Files, **_: Any) -> str:
    """Rewrite the links of one page from the layout of the repository to that of the site."""
    folder = posixpath.dirname(page.file.src_uri)
    inside_docs = not any(Path(page.file.src_uri).match(pattern) for pattern in OUTSIDE)
    source_folder = posixpath.join("docs", folder) if inside_docs else folder

    def rewritten(match: re.Match[str]) -> str:
        image, text, target, anchor = match.groups()
        in_repository = posixpath.normpath(posixpath.join(source_folder, target))
        in_site = in_repository.removeprefix("docs/")
        if files.get_file_from_path(in_site) is None and (ROOT / in_repository).exists():
            return text
        return f"{image}[{text}]({posixpath.relpath(in_site, folder or '.')}{anchor or ''})"

    return LINK.sub(rewritten, markdown)
