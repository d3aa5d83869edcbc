"""Pages that mkdocs makes from other files: one for each notebook, and the reference of all public names."""

import ast
import base64
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files

ROOT = Path(__file__).parents[2]
NOTEBOOKS = ("first_steps", "your_own_data", "training_loop", "reading_a_study")
LONGEST = 60
"""Lines of an output that are shown."""
PICTURE = re.compile(r"\]\(\.\./benchmarks/studies/([\w./-]+\.(?:svg|png))\)")
"""A picture of a study, as pages of the repository show it."""


def on_files(files: Files, config: Any) -> Files:
    """Add the pages; mkdocs calls this."""
    for name in NOTEBOOKS:
        page, pictures = notebook_page(ROOT / "notebooks" / f"{name}.ipynb")
        files.append(File.generated(config, f"notebooks/{name}.md", content=page))
        for picture, content in pictures.items():
            files.append(File.generated(config, f"notebooks/{picture}", content=content))
    for picture in pictures_of_studies(ROOT / "docs"):
        content = (ROOT / "benchmarks" / "studies" / picture).read_bytes()
        files.append(File.generated(config, site_place(picture), content=content))
    files.append(File.generated(config, "api.md", content=reference_page(ROOT / "synthaug" / "__init__.py")))
    return files


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Point a page at the site's copies of the studies' pictures; mkdocs calls this."""
    return PICTURE.sub(lambda found: f"]({site_place(found[1])})", markdown)


def pictures_of_studies(docs: Path) -> list[str]:
    """Pictures that pages show from the folders of studies."""
    found = (PICTURE.findall(page.read_text(encoding="utf-8")) for page in sorted(docs.glob("*.md")))
    return list(dict.fromkeys(picture for pictures in found for picture in pictures))


def site_place(picture: str) -> str:
    """Where the site has a study's picture.

    Example:
        >>> site_place("phantom/gains.png")
        'studies/phantom/gains.png'
    """
    return f"studies/{picture}"


def notebook_page(path: Path) -> tuple[str, dict[str, bytes]]:
    """A notebook as Markdown, and its pictures by file name."""
    notebook = json.loads(path.read_text(encoding="utf-8"))
    pictures: dict[str, bytes] = {}
    parts = []
    for cell in notebook["cells"]:
        source = "".join(cell["source"]).strip()
        if cell["cell_type"] == "markdown":
            parts.append(source.replace(".ipynb)", ".md)"))
        elif source:
            parts.append(f"```python\n{source}\n```")
            parts += _outputs(cell["outputs"], path.stem, pictures)
    return "\n\n".join(parts) + f"\n\nThis page is the notebook `notebooks/{path.name}` as it last ran.\n", pictures


def _outputs(outputs: list[dict[str, Any]], name: str, pictures: dict[str, bytes]) -> Iterator[str]:
    for output in outputs:
        data = output.get("data", {})
        if "image/png" in data:
            picture = f"{name}-{len(pictures) + 1}.png"
            pictures[picture] = base64.b64decode("".join(data["image/png"]))
            yield f"![Output of the cell above]({picture})"
            continue
        lines = "".join(output.get("text", data.get("text/plain", ""))).rstrip().splitlines()
        if lines:
            shown = [*lines[:LONGEST], *(["…"] if len(lines) > LONGEST else [])]
            yield "```text\n" + "\n".join(shown) + "\n```"


def reference_page(package: Path) -> str:
    """Every public name where it is defined, as the package's own table says."""
    tree = ast.parse(package.read_text(encoding="utf-8"))
    tables = [node for node in tree.body if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "_HOME"]
    homes: dict[str, str] = ast.literal_eval(tables[0].value)
    entries = "\n\n".join(f"::: {home}.{name}" for name, home in sorted(homes.items()))
    return f"# Reference\n\nAll names of `import synthaug as sa`, as `sa.NAME`.\n\n{entries}\n"
