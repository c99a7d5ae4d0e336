"""What mkdocs calls while it builds the site: pages made from the code, and links out of docs/."""

from __future__ import annotations

import posixpath
import re
import sys
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File

sys.path.insert(0, str(Path(__file__).parent))
import reference_pages

ROOT = reference_pages.ROOT
_LINK = re.compile(r"\[([^\]]+)\]\(([^)\s#]+)(#[^)\s]*)?\)")
_FROM_ROOT = {
    "CHANGELOG.md": "reference/changelog.md",
    "src/paretune/SKILL.md": "agents.md",
}
"""Files beside docs/ that are pages of the site."""


def on_files(files: Any, config: Any) -> Any:
    """Add the pages that are made from the code, and those of :data:`_FROM_ROOT`."""
    pages = {path: page() for path, page in reference_pages.PAGES.items()}
    for source, path in _FROM_ROOT.items():
        text = (ROOT / source).read_text(encoding="utf-8")
        pages[path] = re.sub(r"\]\(docs/", "](../", text)
    for path, content in pages.items():
        files.append(File.generated(config, path, content=content))
    return files


def on_page_markdown(markdown: str, page: Any, config: Any, files: Any) -> str:
    """Links to files beside docs/: to the repository where the site knows it, else only their text.

    Links to what is not there stay, so that the build refuses them.
    """
    here = posixpath.dirname(page.file.src_uri)

    def rewrite(match: re.Match[str]) -> str:
        text, target, anchor = match[1], match[2], match[3] or ""
        path = posixpath.normpath(posixpath.join(here, target))
        if not path.startswith("../"):
            return match[0]
        outside = path.removeprefix("../")
        if outside in _FROM_ROOT:
            return f"[{text}]({posixpath.relpath(_FROM_ROOT[outside], here or '.')}{anchor})"
        if not (ROOT / outside).exists():
            return match[0]
        if config.repo_url:
            return f"[{text}]({config.repo_url.rstrip('/')}/blob/main/{outside}{anchor})"
        return text if outside in text else f"{text} (`{outside}`)"

    return _LINK.sub(rewrite, markdown)
