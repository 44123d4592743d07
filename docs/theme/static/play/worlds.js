/* The worlds of the page "Try it" in numbers: a pole on a cart, and rooms. Nothing is drawn. */
globalThis.jaxpgWorlds = (() => {
  /* Numbers in [0, 1) from a seed, by Marsaglia's xorshift (2003) of 32 bits. */
  function makeRandom(seed) {
    let word = (seed | 0) || 1
    return () => {
      word ^= word << 13
      word ^= word >>> 17
      word ^= word << 5
      return (word >>> 0) / 2 ** 32
    }
  }

  /* The pole on a cart of Barto, Sutton & Anderson (1983), by Euler's method. Units are metres,
     kilograms, seconds and radians; a state is [place, speed, angle, speed of the angle].
     params: as gymnax names them. */
  function makeCartPole(params) {
    const p = params
    const start = random => Array.from({ length: 4 }, () => 0.1 * random() - 0.05)

    function step([x, speed, angle, turn], action) {
      const force = action === 1 ? p.force_mag : -p.force_mag
      const sine = Math.sin(angle), cosine = Math.cos(angle)
      const pushed = (force + p.polemass_length * turn ** 2 * sine) / p.total_mass
      const inertia = p.length * (4 / 3 - p.masspole * cosine ** 2 / p.total_mass)
      const turning = (p.gravity * sine - cosine * pushed) / inertia
      const speeding = pushed - p.polemass_length * turning * cosine / p.total_mass
      return [x + p.tau * speed, speed + p.tau * speeding,
              angle + p.tau * turn, turn + p.tau * turning]
    }

    const isOver = ([x, , angle]) =>
      Math.abs(x) > p.x_threshold || Math.abs(angle) > p.theta_threshold_radians

    /* Pushes the top of the pole: to the right if `by`, in radians a second, is positive. */
    const push = ([x, speed, angle, turn], by) => [x, speed, angle, turn + by]

    return { params, start, step, isOver, push, limit: p.max_steps_in_episode }
  }

  /* Steps of each of `episodes` from its start to its fall, or to the limit.
     act: actions of states. by: what the pole is pushed by, after every 50 steps, to a random
     side. */
  async function playEpisodes(world, act, episodes, by, random) {
    let states = Array.from({ length: episodes }, () => world.start(random))
    const steps = new Array(episodes).fill(0), over = new Array(episodes).fill(false)
    for (let t = 1; t <= world.limit && over.includes(false); t++) {
      if (t % 25 === 0) await new Promise(next => setTimeout(next)) // the page may go on
      const actions = await act(states)
      states = states.map((state, i) => {
        const side = random() < 0.5 ? -1 : 1
        if (over[i]) return state
        const next = world.step(state, actions[i])
        steps[i] = t
        over[i] = world.isOver(next)
        return by && t % 50 === 0 ? world.push(next, side * by) : next
      })
    }
    return steps
  }

  const MOVES = [[-1, 0], [0, 1], [1, 0], [0, -1]] // up, right, down, left

  /* Rooms by their rows, # for a wall and . for a cell. Cells are counted row by row, from 0. */
  function makeRooms(rows) {
    const cells = [], number = new Map()
    rows.forEach((row, y) => [...row].forEach((letter, x) => {
      if (letter !== ".") return
      number.set(`${y},${x}`, cells.length)
      cells.push([y, x])
    }))
    const find = (y, x) => number.get(`${y},${x}`)
    const beside = cells.map(([y, x], s) => MOVES.map(([dy, dx]) => find(y + dy, x + dx) ?? s))
    const height = rows.length, width = rows[0].length
    const places = cells.map(([y, x]) => [2 * y / (height - 1) - 1, 2 * x / (width - 1) - 1])

    /* The fewest steps from every cell to a goal. */
    function countSteps(goal) {
      const steps = new Array(cells.length).fill(Infinity), queue = [goal]
      steps[goal] = 0
      for (const s of queue) {
        for (const next of beside[s]) { // a way there is a way back
          if (steps[next] < Infinity) continue
          steps[next] = steps[s] + 1
          queue.push(next)
        }
      }
      return steps
    }

    /* Steps from every cell to a goal if each takes its action; infinite where it never comes. */
    function followActions(actions, goal) {
      return cells.map((_, s) => {
        for (let t = 0; t <= cells.length; t++) {
          if (s === goal) return t
          s = beside[s][actions[s]]
        }
        return Infinity
      })
    }

    return { cells, beside, places, width, height, find, countSteps, followActions }
  }

  return { MOVES, makeRandom, makeCartPole, playEpisodes, makeRooms }
})()
