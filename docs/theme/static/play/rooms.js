/* Four rooms, in which an agent walks to the goal that a visitor sets. */
(() => {
  const { make, makeButton, clear, readColours, makeClock, showProblem, still } = jaxpgStage
  const { MOVES, makeRandom, makeRooms } = jaxpgWorlds
  const SECONDS = 0.16 // of a step
  const KEYS = { ArrowUp: 0, ArrowRight: 1, ArrowDown: 2, ArrowLeft: 3 }

  const name = (rooms, s) => `row ${rooms.cells[s][0]}, column ${rooms.cells[s][1]}`

  /* Asks the policy for its action in every cell, and says how good they are for this goal. */
  async function setGoal(scene, goal) {
    if (scene.asking) return // one question at a time
    scene.asking = true
    const { rooms } = scene, here = rooms.places, there = here.map(() => rooms.places[goal])
    scene.actions = await scene.policy(
      { "obs['achieved']": here, "obs['desired']": there, "obs['observation']": here })
    scene.goal = goal
    scene.fewest = rooms.countSteps(goal)
    scene.steps = rooms.followActions(scene.actions, goal)
    scene.asking = false
    depart(scene, scene.agent)
    const others = rooms.cells.length - 1, reached = scene.steps.filter(t => t > 0 && t < Infinity)
    const best = scene.steps.filter((t, s) => s !== goal && t === scene.fewest[s])
    scene.share.textContent = `The policy comes to this goal from ${reached.length} of the `
      + `${others} other cells, from ${best.length} of them by a shortest way.`
    announce(scene)
  }

  /* Begins a walk in a cell. */
  function depart(scene, cell) {
    Object.assign(scene, { agent: cell, start: cell, trail: [cell], lost: false })
  }

  function announce(scene) {
    const { rooms, agent, goal, start, trail, fewest, steps, lost } = scene
    const walked = trail.length - 1
    scene.status.textContent = agent === goal
      ? `At the goal in ${name(rooms, goal)}, after ${walked} steps; `
        + `the fewest are ${fewest[start]}.`
      : lost ? `Lost: from ${name(rooms, start)} the policy walks in a circle.`
      : `On the way from ${name(rooms, start)} to ${name(rooms, goal)}: `
        + (steps[start] < Infinity ? `${steps[start]} steps.` : "it will not arrive.")
  }

  function step(scene) {
    if (scene.agent === scene.goal || scene.lost || scene.asking) return
    scene.agent = scene.rooms.beside[scene.agent][scene.actions[scene.agent]]
    scene.trail.push(scene.agent)
    scene.lost = scene.steps[scene.start] === Infinity && scene.trail.length > 40
    if (scene.agent === scene.goal || scene.lost) announce(scene)
  }

  /* The arrow of an action in a cell. */
  function drawArrow(pen, x, y, size, action) {
    const [dy, dx] = MOVES[action], r = 0.22 * size
    pen.beginPath()
    pen.moveTo(x - dx * r, y - dy * r)
    pen.lineTo(x + dx * r, y + dy * r)
    pen.moveTo(x + (dy - dx) * r * 0.55 + dx * r, y + (dx - dy) * r * 0.55 + dy * r)
    pen.lineTo(x + dx * r, y + dy * r)
    pen.lineTo(x + (-dy - dx) * r * 0.55 + dx * r, y + (-dx - dy) * r * 0.55 + dy * r)
    pen.stroke()
  }

  function draw(scene, part) {
    const { rooms, canvas, agent, goal, actions, steps, trail } = scene
    const { pen, width } = clear(canvas), colours = readColours(canvas), size = width / rooms.width
    const middle = s => [(rooms.cells[s][1] + 0.5) * size, (rooms.cells[s][0] + 0.5) * size]
    pen.fillStyle = colours.wall
    for (let y = 0; y < rooms.height; y++)
      for (let x = 0; x < rooms.width; x++)
        if (rooms.find(y, x) === undefined) {
          const [left, right, top, bottom] = [x, x + 1, y, y + 1].map(n => Math.floor(n * size))
          pen.fillRect(left, top, right - left, bottom - top) // whole pixels, or seams are seen
        }
    rooms.cells.forEach((_, s) => {
      if (s === goal) return
      const [x, y] = middle(s), lost = steps[s] === Infinity
      pen.lineWidth = lost ? 2 : 1.3
      pen.strokeStyle = lost ? colours.alarm : colours.faint
      if (scene.arrows.checked) drawArrow(pen, x, y, size, actions[s])
    })
    const [gx, gy] = middle(goal)
    pen.strokeStyle = pen.fillStyle = colours.goal
    pen.lineWidth = 3
    pen.beginPath()
    pen.arc(gx, gy, 0.36 * size, 0, 2 * Math.PI)
    pen.stroke()
    pen.beginPath()
    pen.arc(gx, gy, 0.14 * size, 0, 2 * Math.PI)
    pen.fill()
    pen.strokeStyle = pen.fillStyle = colours.actor
    const moving = agent !== goal && !scene.lost && !scene.asking && !still.matches
    const next = moving ? rooms.beside[agent][actions[agent]] : agent
    const [ax, ay] = middle(agent), [bx, by] = middle(next)
    const [x, y] = [ax + part * (bx - ax), ay + part * (by - ay)]
    pen.globalAlpha = 0.45
    pen.beginPath()
    for (const s of trail) pen.lineTo(...middle(s))
    pen.lineTo(x, y)
    pen.stroke()
    pen.globalAlpha = 1
    pen.beginPath()
    pen.arc(x, y, 0.27 * size, 0, 2 * Math.PI)
    pen.fill()
  }

  /* Moves the goal by a click, and by the arrow keys. */
  function listen(scene) {
    const { canvas, rooms } = scene
    canvas.addEventListener("pointerdown", event => {
      const size = canvas.clientWidth / rooms.width
      const cell = rooms.find(Math.floor(event.offsetY / size), Math.floor(event.offsetX / size))
      if (cell !== undefined) setGoal(scene, cell)
    })
    canvas.addEventListener("keydown", event => {
      if (!(event.key in KEYS)) return
      event.preventDefault()
      setGoal(scene, rooms.beside[scene.goal][KEYS[event.key]])
    })
  }

  async function start(root) {
    const { map, model } = jaxpgPolicies.rooms
    const rooms = makeRooms(map), random = makeRandom(Date.now())
    const drawCell = () => Math.floor(random() * rooms.cells.length)
    const what = "Four rooms. Arrow keys move the goal; the text beside says where the agent is."
    const canvas = make("canvas",
      { class: "play-rooms", tabindex: "0", role: "application", "aria-label": what })
    const scene = { rooms, canvas, policy: await jaxpgRuntime.loadPolicy(model), agent: 0,
      status: make("p", { role: "status" }), share: make("p"),
      arrows: make("input", { type: "checkbox", checked: "" }) }
    let clock = null
    const turn = make("button", { type: "button", onclick: () => clock.turn() }, "Pause")
    const newStart = () => { depart(scene, drawCell()); announce(scene) }
    const controls = make("div", { class: "play-controls" }, turn,
      makeButton("New goal", () => setGoal(scene, drawCell())), makeButton("New start", newStart),
      make("label", {}, scene.arrows, " its action in every cell"))
    await setGoal(scene, rooms.cells.length - 1)
    const words = make("div", {}, scene.status, scene.share)
    root.replaceChildren(controls, make("div", { class: "play-scene" }, canvas, words))
    listen(scene)
    clock = makeClock(root, SECONDS, () => step(scene), part => draw(scene, part), on => {
      turn.textContent = on ? "Pause" : "Play"
    })
    clock.begin()
    return { scene, clock, setGoal: goal => setGoal(scene, goal) }
  }

  const root = document.getElementById("play-rooms")
  globalThis.jaxpgRooms = start(root).catch(error => showProblem(root, error))
})()
