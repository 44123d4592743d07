"""Names are shown as they are: never as formulas, and never as orders to a terminal."""

import json
import xml.etree.ElementTree as ET

import jax
import matplotlib
import numpy as np
import pytest

import jaxpg
from jaxpg import cli
from jaxpg.cli import common
from jaxpg.experiment import runs
from jaxpg.experiment.callbacks.progress import progress_bar
from jaxpg.experiment.figures import efficiency, improvement, profiles, style
from jaxpg.experiment.figures.learning_curve import curves, learning_curve
from jaxpg.experiment.figures.risk import draw_risk
from jaxpg.experiment.render.frames import SIZE, write_text
from jaxpg.experiment.run import folder as run_folders
from jaxpg.experiment.text import printable
from tests.experiments import grid, run_folder, sweep

ESCAPES = "\x1b[2Jx\x1b]0;y\x07\r\x9b31m\u202e\u2066\u200b\udcff"
FORMULAS = ("a$b$c", "$\\frac{$", "$", "$$", "a_b^{", "\\$5$", "50 %", "$\\undefined$", "#&~")


def commands(text):
    """What a terminal would obey, or not show."""
    return [x for x in text if not x.isprintable() and x != "\n"]


def test_printable():
    assert printable(ESCAPES) == (
        "\\x1b[2Jx\\x1b]0;y\\x07\\r\\x9b31m\\u202e\\u2066\\u200b\\udcff"
    )  # fmt: skip
    plain = "runs/été 雪 ½ $x$ [red] \\n"
    assert printable(plain) == plain
    assert printable("a\nb") == "a\\nb"
    assert printable("a\nb", keep="\n") == "a\nb"


# Pictures.


@pytest.fixture(params=[{}, {"text.usetex": True, "axes.formatter.use_mathtext": True}])
def settings(request):
    """matplotlib's settings, as a user's own may be."""
    with matplotlib.rc_context(request.param):
        yield


def picture(figure, tmp_path, words=()):
    """Draws a figure both ways; the SVG, in which text is kept beside its outlines."""
    style.save(figure, tmp_path / "x.png")
    style.save(figure, tmp_path / "x.svg")
    text = (tmp_path / "x.svg").read_text()
    ET.fromstring(text)  # is XML
    assert not commands(text)
    for word in words:
        assert word in text
    return text


@pytest.mark.parametrize("name", FORMULAS)
def test_a_name_is_no_formula(name, tmp_path):
    path = run_folder(tmp_path / name, np.linspace(0, 1e6, 10) * np.ones((2, 1)), greedy=[1, 2])
    learning_curve([path], path / "curve.png")
    figure = curves([path])
    (legend,) = figure.legends
    assert f"{name}, mean of 2 seeds" in [t.get_text() for t in legend.get_texts()]
    figure.savefig(tmp_path / "x.png")
    assert f"{name}, mean of 2 seeds" in [t.get_text() for t in legend.get_texts()]


def test_titles_labels_and_ticks_are_no_formulas(settings, tmp_path):
    """Also of ticks that are made while the figure is drawn, and of numbers by powers of ten."""
    figure, (axes,) = style.new_panels(1)
    axes.plot([0, 1e9], [1e9, 3e9], label="$a$")
    style.set_title(axes, "$b^{", "$c", "d$")
    axes.set(xlabel="$e$", ylabel="$f_{")
    axes.set_xticks([0, 1e9], ["$g^$", "$h"])
    axes.annotate("$i$", (0.5, 0.5), xycoords="axes fraction")
    style.legend_below(figure, axes.get_legend_handles_labels()[0])
    twin = axes.twinx()
    twin.set_ylabel("$j$")
    inner = axes.inset_axes((0.5, 0.5, 0.2, 0.2))
    inner.set_title("$k^$")
    words = ("$a$", "$b^{", "$c; d$", "$e$", "$f_{", "$g^$", "$h", "$i$", "$j$", "$k^$", "1e9")
    picture(figure, tmp_path, words)


def test_names_of_every_kind_of_picture(tmp_path):
    names = ("$x^{$", f"y{ESCAPES}$")
    scores = {name: np.array([[1.0, 2, 3, 4]]) + i for i, name in enumerate(names)}
    picture(profiles(scores), tmp_path, ["$x^{$"])
    picture(improvement(scores), tmp_path)
    steps = np.arange(1, 11) * 10.0
    learnt = {n: (steps, np.cumsum(np.ones((3, 10)), 1)) for n in names}
    picture(efficiency(learnt, 5.0), tmp_path, ["$x^{$"])
    gains = {name: np.random.default_rng(i).normal(size=(3, 40)) for i, name in enumerate(names)}
    draw_risk(gains, tmp_path / "risk.svg", unit="$")
    assert not commands((tmp_path / "risk.svg").read_text())
    points, values = grid()
    points = [{"env.map": f"{p['gae_lambda']}$^{{{ESCAPES}"} | p for p in points]
    found = sweep(points, values)
    for figure in (
        jaxpg.pictures.heat_map(found, "env.map"),
        jaxpg.pictures.heat_map(found, "env.map", "learning_rate"),
        jaxpg.pictures.parallel_coordinates(found),
        jaxpg.pictures.curves(found),
    ):
        picture(figure, tmp_path)


def test_names_of_folders_and_metrics_in_pictures(tmp_path):
    path = run_folder(tmp_path / f"{ESCAPES}\n$x", [[1.0, 2, 3]])
    rows = path / "metrics.csv"
    rows.write_text(rows.read_text().replace("loss/policy", "loss/\x1b$"))
    picture(curves([path]), tmp_path, ["\\x1b[2Jx"])
    picture(jaxpg.pictures.training_report(path), tmp_path, ["loss/\\x1b$"])


def test_a_name_that_begins_with_a_line_is_in_the_legend(tmp_path):
    path = run_folder(tmp_path / "_mine", [[1.0, 2, 3]])
    figure = curves([path])
    assert [t.get_text().strip() for t in figure.legends[0].get_texts()] == ["_mine"]


def test_a_picture_of_an_episode_has_one_line():
    from PIL import Image, ImageDraw

    image = Image.new("RGB", (SIZE, SIZE))
    write_text(ImageDraw.Draw(image), (10, 10), "a\nb\x1b", 15)
    assert np.asarray(image).any()


# The page.


def test_the_page_shows_what_a_name_hides(tmp_path):
    path = run_folder(tmp_path / f"x{ESCAPES}", [[1.0, 2, 3]], made_with={"jaxpg": ESCAPES})
    text = jaxpg.report([path], tmp_path / "x.html").read_text()
    assert not commands(text)
    assert "x\\x1b[2Jx" in text
    assert "\\u202e" in text


# The terminal.


def test_commands_print_no_escapes(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(common, "set_up", lambda *_: None)
    path = run_folder(tmp_path / f"x{ESCAPES}\ny", [[1.0, 2, 3]])
    for words, code in (
        (["plot", path], 0),
        (["report", path, "--out", path / "x.html"], 0),
        (["eval", path], 2),
        (["render", path, "--out", path / "x.gif"], 2),
        (["eval", tmp_path / f"nowhere{ESCAPES}"], 2),
        (["train", f"ppo{ESCAPES}", "CartPole-v1"], 2),
        (["train", "ppo", f"CartPole{ESCAPES}"], 2),
        ([f"train{ESCAPES}"], 2),
    ):
        assert cli.main(list(map(str, words))) == code
        out, err = capsys.readouterr()
        assert not commands(out + err)
        assert (out + err).count("\n") == 1
        assert "\\x1b" in out + err


def test_errors_and_warnings_have_no_escapes(tmp_path):
    made = {"jax": ESCAPES}
    path = run_folder(tmp_path / f"x{ESCAPES}\ny", [[1.0, 2, 3]], made_with=made, chunk=ESCAPES)
    for call in (jaxpg.load, jaxpg.Policy.load, lambda x: jaxpg.load(x / "nowhere")):
        with pytest.raises(jaxpg.CheckpointError) as caught:
            call(path)
        assert not commands(str(caught.value))
        assert "\n" not in str(caught.value)
    with (
        pytest.warns(UserWarning, match="was made with") as warned,
        pytest.raises(ValueError, match="chunk="),
    ):
        jaxpg.resume(path)
    assert not any(commands(str(w.message)) for w in warned)


def test_words_that_a_command_does_not_take(capsys):
    """As those that `runs/*` becomes."""
    for words in (["eval", "x", f"y{ESCAPES}"], ["train", "ppo", "CartPole-v1", f"--no{ESCAPES}"]):
        assert cli.main(words) == 2
        out, err = capsys.readouterr()
        assert not commands(out + err)
        assert "\\x1b" in out + err


def test_tables_print_no_escapes(capsys):
    """Nor is a name in brackets taken for a style, or a word between colons for a picture."""
    from rich.table import Table

    common.tell(ESCAPES, "two")
    common.print_table({"greedy": [1.0]})
    table = Table("[red]a[/]")
    table.add_row("[/b] :smile:")
    common.console().print(table)
    out, _ = capsys.readouterr()
    assert not commands(out)
    assert "[red]a[/]" in out
    assert "[/b] :smile:" in out


def test_a_bar_takes_its_label_as_it_is(capsys):
    bar = progress_bar(f"{ESCAPES}[/x]{{y}} [red]z")
    bar.show(1.0, ["done"])
    bar.stop()
    _, err = capsys.readouterr()
    assert not commands(err)
    assert "[/x]{y} [red]z" in err


# A run whose picture cannot be drawn.


def write_nothing(path):
    raise RuntimeError("no\nfont")


def small(out):
    env, cfg = jaxpg.make("Cliff-jaxpg"), jaxpg.q_learning.Config()
    key = jax.random.key(0)
    return jaxpg.run(jaxpg.q_learning, cfg, env, key, total_steps=500, evaluations=0, out=out)


def test_a_run_outlives_its_picture(tmp_path, monkeypatch):
    monkeypatch.setattr(runs, "draw_curve", write_nothing)
    out = tmp_path / "$x$"
    with pytest.warns(UserWarning, match="learning curve is not drawn: RuntimeError: no"):
        result = small(out)
    assert result.stopped == "done"
    assert json.loads((out / "summary.json").read_text())["stopped"] == "done"
    assert not (out / "curve.png").exists()
    monkeypatch.undo()
    before = (out / "summary.json").read_bytes()
    assert jaxpg.resume(out).stopped == "done"  # draws what is missing
    assert (out / "curve.png").read_bytes().startswith(b"\x89PNG")
    assert (out / "summary.json").read_bytes() == before
    assert not [x for x in out.iterdir() if x.name.startswith(".")]


def test_the_summary_is_first(tmp_path, monkeypatch):
    seen = []
    monkeypatch.setattr(
        runs, "draw_curve", lambda path: seen.append((path.parent / "summary.json").exists())
    )
    small(tmp_path / "run")
    assert seen == [True]


def test_a_picture_is_whole_or_not_there(tmp_path, monkeypatch):
    path = run_folder(tmp_path / "x", [[1.0, 2, 3]])
    draft = []

    def half(_, file, *args):
        file.write_bytes(b"half")
        draft.append(file)
        raise OSError("disk full")

    monkeypatch.setattr("jaxpg.experiment.figures.learning_curve.learning_curve", half)
    with pytest.raises(OSError, match="disk full"):
        runs.draw_curve(path / run_folders.CURVE)
    assert draft
    assert not draft[0].exists()
    assert not (path / "curve.png").exists()
