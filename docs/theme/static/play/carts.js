/* Poles on carts under three policies, side by side, which a visitor pushes. */
(() => {
  const { make, makeButton, clear, readColours, makeClock, showProblem } = jaxpgStage
  const { makeRandom, makeCartPole, playEpisodes } = jaxpgWorlds
  const PAUSE = 40 // steps that a fallen pole is shown
  const HALF = 2.7 // metres from the middle to the edge of a picture
  const mean = numbers => numbers.reduce((sum, x) => sum + x, 0) / numbers.length

  function makeLane(episodes, act, world, random) {
    const words = make("span", { class: "play-now" }), past = make("span", { class: "play-past" })
    const what = `A cart with a pole, under the policy after ${episodes} episodes`
    const canvas = make("canvas", { class: "play-cart", role: "img", "aria-label": what })
    const title = make("strong", {}, `after ${episodes} episodes`)
    const figure = make("figure", {}, canvas, make("figcaption", {}, title, words, past))
    return { episodes, act, canvas, words, past, figure, lengths: [], state: world.start(random),
             steps: 0, pushed: false, rest: 0, flash: 0 }
  }

  function begin(lane, world, random) {
    Object.assign(lane, { state: world.start(random), steps: 0, pushed: false, rest: 0 })
  }

  /* One step of a lane: the policy acts, the cart moves, an episode that is over is counted. */
  async function step(lane, world, random) {
    if (lane.rest > 0) {
      if (--lane.rest === 0) begin(lane, world, random)
      return
    }
    const [action] = await lane.act([lane.state])
    lane.state = world.step(lane.state, action)
    lane.steps++
    lane.flash -= Math.sign(lane.flash)
    if (world.isOver(lane.state) || lane.steps >= world.limit) {
      lane.rest = PAUSE
      if (!lane.pushed) lane.lengths.push(lane.steps)
    }
  }

  function push(lane, world, by) {
    if (lane.rest > 0) return
    lane.state = world.push(lane.state, by)
    lane.pushed = true
    lane.flash = 12 * Math.sign(by)
  }

  function describe(lane, world) {
    const now = lane.rest > 0
      ? `${world.isOver(lane.state) ? "over" : "held"} after ${lane.steps} steps`
      : `step ${lane.steps}${lane.pushed ? ", pushed" : ""}`
    const { length } = lane.lengths
    const past = length ? `mean of ${length}: ${Math.round(mean(lane.lengths))}` : "\u00a0"
    if (lane.words.textContent !== now) lane.words.textContent = now
    if (lane.past.textContent !== past) lane.past.textContent = past
  }

  function draw(lane, world) {
    const { pen, width, height } = clear(lane.canvas), colours = readColours(lane.canvas)
    const { x_threshold: edge, theta_threshold_radians: most, length } = world.params
    const [x, , angle] = lane.state
    const metre = width / (2 * HALF), ground = height - 0.3 * metre
    const line = (colour, thick, ...points) => {
      pen.strokeStyle = colour
      pen.lineWidth = thick
      pen.beginPath()
      points.forEach(([a, b], i) => i ? pen.lineTo(a, b) : pen.moveTo(a, b))
      pen.stroke()
    }
    const at = place => width / 2 + place * metre
    line(colours.faint, 2, [at(-edge), ground], [at(edge), ground])
    for (const end of [-edge, edge])
      line(colours.faint, 2, [at(end), ground - 7], [at(end), ground + 7])
    const hub = [at(x), ground - 0.3 * metre]
    const tip = (a, r) => [hub[0] + r * metre * Math.sin(a), hub[1] - r * metre * Math.cos(a)]
    pen.setLineDash([2, 5])
    for (const a of [-most, most]) line(colours.faint, 1, tip(a, 0.2), tip(a, 2 * length + 0.15))
    pen.setLineDash([])
    pen.fillStyle = colours.ink
    pen.beginPath()
    pen.roundRect(at(x) - 0.3 * metre, hub[1], 0.6 * metre, 0.3 * metre, 3)
    pen.fill()
    const fallen = lane.rest > 0 && world.isOver(lane.state)
    const thick = Math.max(4, 0.09 * metre)
    line(fallen ? colours.alarm : colours.actor, thick, hub, tip(angle, 2 * length))
    if (lane.flash) {
      const side = Math.sign(lane.flash), [a, b] = tip(angle, 2 * length)
      line(colours.alarm, 3, [a - side * 34, b], [a - side * 10, b])
      line(colours.alarm, 3, [a - side * 17, b - 6], [a - side * 10, b], [a - side * 17, b + 6])
    }
    pen.fillStyle = colours.faint
    pen.fillRect(0, height - 4, width, 4)
    pen.fillStyle = colours.actor
    pen.fillRect(0, height - 4, width * lane.steps / world.limit, 4)
  }

  /* The table of 100 episodes at once, and of 100 in which the poles are pushed. */
  async function measure(lanes, world, by) {
    const head = ["policy", "left alone", `pushed by ${by.toFixed(1)} rad/s every 50 steps`]
    const rows = make("tbody")
    for (const { episodes, act } of lanes) {
      const cells = [`after ${episodes} episodes`]
      for (const strength of [0, by])
        cells.push(Math.round(mean(await playEpisodes(world, act, 100, strength, makeRandom(1)))))
      rows.append(make("tr", {}, ...cells.map(text => make("td", {}, String(text)))))
    }
    const caption = make("caption", {}, "Mean steps of 100 episodes; 500 is the limit")
    const names = head.map(text => make("th", { scope: "col" }, text))
    const first = make("thead", {}, make("tr", {}, ...names))
    return make("table", { class: "table" }, caption, first, rows)
  }

  /* The row of buttons, and the strength of a push. */
  function makeControls(lanes, world, random, clock) {
    const turn = make("button", { type: "button", onclick: () => clock().turn() }, "Pause")
    const shown = make("output", {}, "0.5")
    const strength = make("input", { type: "range", min: "0.1", max: "2", step: "0.1", value: "0.5",
      oninput: () => { shown.textContent = Number(strength.value).toFixed(1) } })
    const pushAll = side => lanes.forEach(lane => push(lane, world, side * strength.value))
    const results = make("div", { class: "play-results", role: "status" })
    const judge = makeButton("100 episodes at once", async () => {
      judge.disabled = true
      results.replaceChildren(await measure(lanes, world, Number(strength.value)))
      judge.disabled = false
    })
    const row = make("div", { class: "play-controls" },
      turn, makeButton("\u2190 Push", () => pushAll(-1), "Push all poles to the left"),
      makeButton("Push \u2192", () => pushAll(1), "Push all poles to the right"),
      make("label", {}, "by ", strength, shown, " rad/s"),
      makeButton("Start anew", () => lanes.forEach(lane => begin(lane, world, random))), judge)
    return { row, results, turn, strength, pushAll }
  }

  async function start(root) {
    const { params, models } = jaxpgPolicies.cart_pole
    const world = makeCartPole(params), random = makeRandom(Date.now())
    const lanes = []
    for (const [episodes, model] of Object.entries(models)) {
      const policy = await jaxpgRuntime.loadPolicy(model)
      lanes.push(makeLane(episodes, states => policy({ obs: states }), world, random))
    }
    let clock = null
    const controls = makeControls(lanes, world, random, () => clock)
    const figures = make("div", { class: "play-lanes" }, ...lanes.map(lane => lane.figure))
    root.replaceChildren(controls.row, figures, controls.results)
    for (const lane of lanes)
      lane.canvas.addEventListener("pointerdown", event => {
        const middle = lane.canvas.clientWidth * (0.5 + lane.state[0] / (2 * HALF))
        push(lane, world, (event.offsetX < middle ? 1 : -1) * controls.strength.value)
      })
    root.addEventListener("keydown", event => {
      const side = { ArrowLeft: -1, ArrowRight: 1 }[event.key]
      if (!side || event.target === controls.strength) return
      event.preventDefault()
      controls.pushAll(side)
    })
    const stepAll = async () => { for (const lane of lanes) await step(lane, world, random) }
    const drawAll = () => lanes.forEach(lane => { draw(lane, world); describe(lane, world) })
    clock = makeClock(root, params.tau, stepAll, drawAll, on => {
      controls.turn.textContent = on ? "Pause" : "Play"
    })
    clock.begin()
    return { lanes, world, clock }
  }

  const root = document.getElementById("play-carts")
  globalThis.jaxpgCarts = start(root).catch(error => showProblem(root, error))
})()
