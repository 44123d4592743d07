"""The lessons: each has its parts, and what the site's notebooks print is true."""

import json
import re

import pytest

from tests.pages import LESSONS, ROOT


@pytest.fixture(scope="module")
def printed(site):
    """printed(name): what the cells of a lesson printed when the site was built."""

    def read(name):
        (path,) = site.glob(f"_downloads/*/{name}.ipynb")
        cells = json.loads(path.read_text())["cells"]
        outputs = [x for cell in cells for x in cell.get("outputs", [])]
        return "".join("".join(x.get("text", "")) for x in outputs)

    return read


@pytest.mark.parametrize("page", LESSONS)
def test_a_lesson_has_its_parts(page):
    text = (ROOT / page).read_text()
    number = int(page.rpartition("/")[2][:2])
    assert text.startswith(f"# {number}. ")
    assert re.search(r"^\*Before:\*.+\*Time:\* \d\d minutes\.$", text, re.M | re.S)
    exercises, answers = (
        text.partition("## Exercises")[2].split("\n---\n")[0],
        "<details><summary>Answer",
    )
    assert 3 <= exercises.count(answers) == len(re.findall(r"^\d\. ", exercises, re.M))
    assert exercises.count(answers) == exercises.count("</details>")
    code = re.findall(r"```python\n(.*?)```", text, re.S)
    assert len(code) >= 5
    assert max(len(line) for block in code for line in block.splitlines()) <= 76


@pytest.mark.slow
def test_every_lesson_is_executed_and_draws(site):
    paths = {path.stem: path for path in site.glob("_downloads/*/[0-9][0-9]_*.ipynb")}
    assert sorted(paths) == [page.rpartition("/")[2].removesuffix(".md") for page in LESSONS]
    for path in paths.values():
        cells = [x for x in json.loads(path.read_text())["cells"] if x["cell_type"] == "code"]
        assert all(cell["execution_count"] for cell in cells)
        assert "image/png" in str([cell["outputs"] for cell in cells])
