"""The documentation as a site, by Sphinx. To build it and to look at it:

    pip install '.[docs]' -c constraints.txt && sphinx-build -W -c docs . site
    python -m http.server -d site      # or open site/index.html

Pages are the Markdown files of docs/, as GitHub shows them; NAV sorts them. What is added to them
is in docs/theme.
"""

import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "docs" / "theme")]

import jaxpg  # noqa: E402

project, author, release = "jaxpg", "The authors of jaxpg", jaxpg.__version__
project_copyright = "the authors of jaxpg, Apache-2.0"
root_doc, language = "docs/index", "en"
include_patterns = ["docs/*.md", "docs/course/*.md", "CONTRIBUTING.md", "CHANGELOG.md"]
include_patterns += ["benchmarks/README.md"]
exclude_patterns = [".*", "site", "build", "runs", "jaxpg", "tests", "examples", "**/node_modules"]
extensions = ["myst_nb", "sphinx.ext.autodoc", "sphinx_copybutton", "navigation", "reference"]
extensions += ["equations", "course", "runtime"]
suppress_warnings = ["myst.header"]  # the changelog begins anew at each version

# Markdown as GitHub has it: its names of headings, its equations.
myst_enable_extensions = ["dollarmath"]
myst_heading_anchors = 4
myst_dmath_allow_digits = False
myst_dmath_double_inline = False

# Lessons: an error in a cell is an error of the build.
nb_execution_mode, nb_execution_timeout, nb_execution_raise_on_error = "cache", 300, True
nb_execution_in_temp, nb_merge_streams, nb_output_stderr = True, True, "remove"

autodoc_member_order = "bysource"
autodoc_typehints_format = "short"
python_use_unqualified_type_names = True
maximum_signature_line_length = 80
toc_object_entries_show_parents = "hide"

html_theme, html_title = "pydata_sphinx_theme", "jaxpg"
html_static_path, html_css_files = ["theme/static"], ["style.css"]
html_js_files = ["site.js"]
html_show_sourcelink, html_copy_source, html_show_sphinx = False, False, False
html_permalinks_icon = "#"
html_sidebars = {"docs/index": [], "docs/start": []}
html_context = {"default_mode": "auto"}
html_theme_options = {
    "logo": {"text": "jaxpg"},
    "navbar_align": "left",
    "show_nav_level": 1,
    "navigation_depth": 3,
    "collapse_navigation": True,
    "show_toc_level": 2,
    "show_prev_next": True,
    "footer_start": ["copyright"],
    "footer_end": [],
    "secondary_sidebar_items": ["page-toc"],
    "pygments_light_style": "a11y-high-contrast-light",
    "pygments_dark_style": "a11y-high-contrast-dark",
}
copybutton_exclude = ".linenos, .gp, .go"
