"""What the documentation site (`make docs`) needs beyond the pages that lie here: hooks of MkDocs, named in mkdocs.yml.

The pages are written for GitHub. README, CONTRIBUTING and CHANGELOG become pages of the site as well, and every other file of the
repository that a page links to is copied to `repository/`. `::: megadance_hf.NAME` stands for the place that defines the name,
`::: megadance_hf.ROOM.*` for all public names of a package.
"""

import posixpath
import re
from importlib import import_module
from pathlib import Path

from mkdocs.structure.files import File

ROOT = Path(__file__).resolve().parent.parent
PAGES = {"README.md": "index.md", "CONTRIBUTING.md": "contributing.md", "CHANGELOG.md": "changelog.md"}
LINK = re.compile(r"\]\((?!\w+:|#)([^)#\s]+)(#\S*)?\)")


def place(path: str) -> str:
    """Of a file of the repository on the site."""
    return PAGES.get(path) or (path.removeprefix("docs/") if path.startswith("docs/") else f"repository/{path}")


def on_files(files, config):
    sources = [*PAGES, *(f"docs/{file.src_uri}" for file in files.documentation_pages())]
    for source in sources:
        text = (ROOT / source).read_text(encoding="utf-8")
        linked = [
            posixpath.normpath(posixpath.join(posixpath.dirname(source), match[1])) for match in LINK.finditer(text)
        ]
        for path in [source, *linked]:
            if files.get_file_from_path(place(path)) is None and (ROOT / path).is_file():
                files.append(File.generated(config, place(path), abs_src_path=str(ROOT / path)))
    config.extra["sources"] = {place(source): source for source in sources}
    return files


def on_page_markdown(markdown, page, config, files):
    uri = page.file.src_uri
    source = config.extra["sources"].get(uri, uri.removeprefix("repository/"))

    def link(match: re.Match) -> str:
        path = posixpath.normpath(posixpath.join(posixpath.dirname(source), match[1]))
        return f"]({posixpath.relpath(place(path), posixpath.dirname(uri) or '.')}{match[2] or ''})"

    return re.sub(r"^::: (megadance_hf[\w.]*?)\.(\w+|\*)$", documented, LINK.sub(link, markdown), flags=re.MULTILINE)


def documented(match: re.Match) -> str:
    """`::: megadance_hf.Motion` -> `::: megadance_hf.motion.motion.Motion`; `*` leaves constants out."""
    package = import_module(match[1])
    lines = []
    for name in package.__all__ if match[2] == "*" else [match[2]]:
        value = getattr(package, name)
        if hasattr(value, "__qualname__"):
            home = (
                value.__module__.removeprefix("megadance_hf.") if ".modeling." in value.__module__ else value.__module__
            )
            lines.append(f"::: {home}.{value.__qualname__}")
    return "\n\n".join(lines)
