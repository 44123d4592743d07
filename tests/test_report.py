"""The report: one page that needs nothing else, whatever the runs are called."""

import base64
import re
import shlex
from html.parser import HTMLParser

import jax
import numpy as np
import pytest

import jaxpg
from jaxpg import cli, presets
from jaxpg.cli import common
from jaxpg.core.config import to_dict
from jaxpg.envs import registry, tabular
from jaxpg.experiment.analysis.thresholds import SOLVED, solved, threshold_source
from jaxpg.experiment.report import reproduce
from jaxpg.experiment.report.build import report
from jaxpg.experiment.run import provenance
from jaxpg.ops import dynamic_programming as dp
from tests.experiments import NAN, grid, run_folder, sweep

NASTY = '<b>&"x'
VOID = {"meta", "link", "img", "source"}


class Page(HTMLParser):
    """What a page is made of; it fails on an element that is not closed in its turn."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.open, self.texts = [], [], []
        self.feed(text)
        self.close()
        assert not self.open

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.texts.append((self.open[-1] if self.open else "", data))

    def all(self, tag):
        return [attrs for name, attrs in self.tags if name == tag]

    def text(self, *tags):
        return " ".join(d for tag, d in self.texts if not tags or tag in tags)

    def rows(self):
        """The cells of the first table's body."""
        return [d.strip() for tag, d in self.texts if tag in ("td", "th") and d.strip()]


def checked(path):
    text = path.read_text()
    page = Page(text)
    assert text.startswith("<!DOCTYPE html>")
    assert page.all("html") == [{"lang": "en"}]
    assert not {"script", "iframe", "object", "embed"} & {tag for tag, _ in page.tags}
    for _, attrs in page.tags:
        for name in ("src", "srcset", "href", "poster", "action"):
            assert (attrs.get(name) or "data:").startswith(("data:", "#"))
    style = page.text("style")
    assert "url(" not in style
    assert "@import" not in style
    ids = [attrs["id"] for _, attrs in page.tags if "id" in attrs]
    assert len(set(ids)) == len(ids)
    links = [a["href"][1:] for a in page.all("a")]
    assert set(links) <= set(ids)
    pictures = page.all("img")
    assert all(len(x["alt"]) > 20 for x in pictures)
    assert len(page.all("source")) == len(pictures) == len(page.all("figure"))
    for x in [*pictures, *page.all("source")]:
        kind, _, data = (x.get("src") or x["srcset"]).partition(",")
        assert kind == "data:image/svg+xml;base64"
        svg = base64.b64decode(data).decode()
        assert not re.search(r'(?:href|src)="(?!#|data:)', svg)
    assert len(page.all("table")) == len(page.all("caption")) >= 1
    assert page.text("title").startswith("jaxpg: ")
    return page


def test_a_run_has_its_result_first(tmp_path):
    path = run_folder(
        tmp_path / "mine", np.tile(np.linspace(0, 450, 10), (3, 1)), greedy=[470, 480, 490]
    )
    out = report([path], tmp_path / "report.html")
    page = checked(out)
    assert page.rows()[:16] == [
        "name", "agent", "environment", "env steps", "seeds", "result", "solved", "wall time",
        "mine", "ppo", "CartPole-v1", "100", "3", page.rows()[13], "2 of 3 (≥ 475)", "1 min 15 s",
    ]  # fmt: skip
    value, low, high = map(float, re.findall(r"[\d.]+", page.rows()[13]))
    assert value == 480
    assert 470 <= low < value < high <= 490
    text = page.text()
    preset = presets.table("ppo")["CartPole-v1"]["config"]["learning_rate"]
    assert f"learning_rate 0.5 0.00025 {preset}" in " ".join(page.rows())  # here, default, preset
    assert "CartPole-v1 has its default parameters." in text
    assert "There is no policy to act with" in text  # there is no checkpoint
    assert f"jax {jax.__version__}" in text
    before = out.read_bytes()
    report([path], out)
    assert out.read_bytes() == before


def test_nothing_from_outside_is_html(tmp_path):
    path = run_folder(tmp_path / NASTY, [[1.0, 2, 3]], agent=NASTY, own=["agent"])
    page = checked(report([path, path], tmp_path / "report.html"))
    assert not page.all("b")
    assert page.text("h2").split(NASTY)[0] == ""
    assert NASTY in page.text("th")
    assert any(NASTY in x["alt"] for x in page.all("img"))
    assert NASTY in shlex.split(page.text("code"))[-1] or NASTY in page.text("code")
    assert "is not one of jaxpg's" in page.text()


ODD = {
    "no episode has ended": lambda p: run_folder(p, np.full((2, 5), NAN)),
    "under way": lambda p: run_folder(p, [[1.0, 2, 3]], summary=False),
    "an unknown environment": lambda p: run_folder(
        p, [[1.0, 2]], environment={"name": "Mine"}, own=["env"]
    ),
}


@pytest.mark.parametrize("kind", ODD)
def test_odd_runs_have_a_page(tmp_path, kind):
    page = checked(report([ODD[kind](tmp_path / "a")], tmp_path / "report.html"))
    text = page.text()
    if kind == "under way":
        assert "not ended" in page.rows()
        assert "30 of 30 steps are written" in text
    if kind == "no episode has ended":
        assert page.rows()[13] == "-"
        assert "0 of 2 (≥ 475)" in page.rows()
    if kind == "an unknown environment":
        assert "no threshold" in page.rows()


@pytest.mark.slow  # its quick twins have each kind alone
def test_sweeps_comparisons_and_runs_mix(tmp_path):
    points, values = grid()
    compared = [
        {"agent": a, "env": e} for a in ("ppo", "dqn") for e in ("CartPole-v1", "Acrobot-v1")
    ]
    results = [[100, 500], [-500, -90], [300, NAN], [-300, -200]]
    page = checked(report(
        [sweep(points, values), sweep(compared, results, kind="comparison"),
         run_folder(tmp_path / "a", [[1.0, 2, 3]])],
        tmp_path / "report.html",
    ))  # fmt: skip
    rows = page.rows()
    best = next(x for x in rows if "best of 4" in x)
    assert "learning_rate = 0.001, gae_lambda = 0.5" in best  # that with 110 has one that diverged
    assert rows.count("comparison  CartPole-v1, Acrobot-v1") == 4
    assert "1 of 2 (≥ -100)" in rows  # -90
    assert "1 of 2 (≥ 475)" in rows
    text = page.text()
    assert "4 configs x 3 seeds of 1,000 steps, in 1 compiled program; 1 runs diverged" in text
    assert text.count("Performance profiles") == 0  # in the picture, not in the text
    alts = [x["alt"] for x in page.all("img")]
    assert sum("Learning curves by agent on" in x for x in alts) == 2
    assert any("profiles" in x for x in alts)
    assert any("each pair of agents" in x for x in alts)
    assert any("as a map" in x for x in alts)
    maps = [x["alt"] for x in page.all("img") if x.get("class") == "map"]
    assert len(maps) == 2  # a heat map and parallel coordinates
    assert len(page.all("nav")) == 1
    assert "jaxpg compare ppo dqn --env CartPole-v1 Acrobot-v1" in text


def test_an_empty_sweep_says_so(tmp_path):
    page = checked(report([sweep([], np.zeros((0, 2)))], tmp_path / "report.html"))
    assert "It has no rows yet." in page.text()


def test_bad_input_is_named(tmp_path):
    with pytest.raises(ValueError, match=r"runs=\[\]: allowed are folders"):
        report([], tmp_path / "a.html")
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match="empty: allowed is the folder of a run, a sweep or a"):
        report([tmp_path / "empty"], tmp_path / "a.html")
    for bad in ("a.pdf", "nowhere/a.html"):
        with pytest.raises(ValueError, match=r"allowed is an \.html file in a folder"):
            report([tmp_path], tmp_path / bad)
    path = run_folder(tmp_path / "a", [[1.0]])
    text = (path / "run.json").read_text().replace('"ppo"', '"a2c"')
    (path / "run.json").write_text(text)
    with pytest.raises(jaxpg.CheckpointError, match="changed or cut"):
        report([path], tmp_path / "a.html")
    assert not (tmp_path / "a.html").exists()


# The command of a page, given to the command line, asks for the same run.


def about(agent="ppo", cfg=None, env=None, key=None, **more):
    agent = getattr(jaxpg, agent)
    env = registry.make("CartPole-v1") if env is None else env
    cfg = presets.preset(agent, env.name) if cfg is None else cfg
    key = jax.random.key(0) if key is None else key
    asked = {"total_steps": 1000, "chunk": None, "evaluations": 10, "episodes": 128,
             "checkpoints": 5, "keep": 3}  # fmt: skip
    return provenance.describe_run(agent, cfg, env, key) | asked | more


@pytest.fixture
def asked_for(monkeypatch):
    """What `jaxpg train` would run."""

    def ask(command):
        found = {}

        def run(agent, cfg, env, key, *, callbacks, out, **more):
            found.update(provenance.describe_run(agent, cfg, env, key), **more, out=str(out))
            raise ValueError("enough")

        monkeypatch.setattr(jaxpg, "run", run)
        monkeypatch.setattr(common, "set_up", lambda *_: None)
        assert cli.main(shlex.split(command)[1:]) == 2
        return found

    return ask


CASES = {
    "its preset": lambda: about(),
    "settings": lambda: about(cfg=jaxpg.ppo.Config(
        hidden=(8,), learning_rate=1.5e-3, clip_value=False, shared=True, target_kl=0.01)),
    "no preset": lambda: about("a2c", env=registry.make("Catch-bsuite")),
    "the general profile": lambda: about(env=registry.make("Catch-bsuite")),
    "the defaults": lambda: about(cfg=jaxpg.ppo.Config(), env=registry.make("Catch-bsuite")),
    "seeds": lambda: about(key=jax.random.split(jax.random.key(3), 4), evaluations=2),
    "a seed": lambda: about(key=jax.random.key(12)),
    "parameters": lambda: about(env=registry.make("CartPole-v1", length=1.0, masspole=0.3)),
    "text": lambda: about(env=registry.make("GridWorld-jaxpg", map="S.#/..G", slip=0.25)),
    "negative numbers": lambda: about("q_learning", cfg=jaxpg.q_learning.Config(
        bins=(3,) * 4, low=(-1.0, -2.5, -1.0, -1.0), high=(1.0,) * 4)),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_the_command_gives_the_run_again(case, asked_for):
    record = CASES[case]()
    command = reproduce.shell_command(record, f"runs/{NASTY}")
    assert command.startswith("jaxpg train ")
    found = asked_for(command)
    assert found["out"] == f"runs/{NASTY}"
    for name in ("agent", "config", "environment", "key", "total_steps", "evaluations"):
        assert found[name] == record[name], name


def test_what_the_command_line_cannot_say_is_python(monkeypatch):
    key = jax.random.fold_in(jax.random.key(0), 5)  # of no seed
    record = about(cfg=jaxpg.ppo.Config(hidden=(8,)), key=key, keep=1)
    command = reproduce.shell_command(record, "x")
    head, *lines, end = command.split("\n")
    assert (head, end) == ("python - <<'EOF'", "EOF")
    found = {}

    def run(agent, cfg, env, key, **more):
        found.update(provenance.describe_run(agent, cfg, env, key), **more)

    monkeypatch.setattr(jaxpg, "run", run)
    exec("\n".join(lines), {})
    for name in ("agent", "config", "environment", "key", "total_steps", "keep", "episodes"):
        assert found[name] == record[name], name
    assert found["out"] == "x"


def test_a_sweep_again(monkeypatch):
    from jaxpg.experiment import sweeps

    record = about() | {"kind": "sweep", "points": grid()[0], "seeds": 5, "target": 400.0}
    command = reproduce.shell_command(record, "x")
    found = {}

    def run(agent, cfg, env, key, points, **more):
        found.update(provenance.describe_run(agent, cfg, env, key), points=points, **more)

    monkeypatch.setattr(sweeps, "run", run)
    exec("\n".join(command.split("\n")[1:-1]), {})
    for name in ("config", "environment", "key", "points", "seeds", "total_steps", "target"):
        assert found[name] == record[name], name


def test_no_command_for_what_has_no_name():
    assert reproduce.shell_command(about() | {"own": ["env"]}, "x") is None
    changed = sweep([{"agent": "ppo"}], [[1, 2]], kind="comparison").about
    assert reproduce.shell_command(changed, "x").startswith("jaxpg compare ppo --env CartPole-v1")
    changed["configs"]["ppo"]["CartPole-v1"]["gamma"] = 0.5  # the preset was another one then
    assert reproduce.shell_command(changed, "x") is None


def test_solved():
    assert solved("CartPole-v1") == 475
    assert solved("Breakout-MinAtar") is None
    assert solved(registry.to_dict(registry.make("CartPole-v1"))) == 475
    assert solved(registry.to_dict(registry.make("CartPole-v1", max_steps_in_episode=200))) is None
    assert solved({}) is None
    assert set(SOLVED) <= set(registry.names())
    assert (
        threshold_source("CartPolePositions-jaxpg")
        == threshold_source("CartPole-v1")
        == "Gymnasium's threshold"
    )
    assert threshold_source("Pendulum-v1") == "jaxpg's convention"


@pytest.mark.parametrize("name", ["GridWorld-jaxpg", "Cliff-jaxpg"])
def test_tables_are_solved_near_their_optimum(name):
    P, R, _, start = tabular.model(registry.make(name))
    values = np.asarray(dp.value_iteration(P, R, gamma=1.0)).max(-1)
    best = float(np.asarray(start) @ values)
    assert 1.1 * best - 1e-4 <= SOLVED[name] <= best + 1e-4


def test_the_corridor_is_solved_near_its_optimum():
    best = -6 - 4 * np.sqrt(2)
    assert 1.1 * best <= SOLVED["ShortCorridor-jaxpg"] <= best
    assert to_dict(jaxpg.ppo.Config())["gamma"] == 0.99
