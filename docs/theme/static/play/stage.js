/* What both worlds of the page share: elements, a canvas that is sharp, and time, which stands
   still where nobody looks. */
globalThis.jaxpgStage = (() => {
  const still = matchMedia("(prefers-reduced-motion: reduce)")

  /* An element: its name, attributes (of which on... are functions), and what is in it. */
  function make(name, attributes = {}, ...children) {
    const element = document.createElement(name)
    for (const [key, value] of Object.entries(attributes)) {
      if (key.startsWith("on")) element.addEventListener(key.slice(2), value)
      else element.setAttribute(key, value)
    }
    element.append(...children)
    return element
  }

  /* label: what it is called where it is not seen, if its text is not enough. */
  const makeButton = (text, onclick, label = text) =>
    make("button", { type: "button", onclick, "aria-label": label }, text)

  /* The pen of a canvas, with its width and height in pixels of the page, emptied. */
  function clear(canvas) {
    const { clientWidth: width, clientHeight: height } = canvas, scale = devicePixelRatio || 1
    const [w, h] = [Math.round(width * scale), Math.round(height * scale)]
    if (canvas.width !== w || canvas.height !== h) Object.assign(canvas, { width: w, height: h })
    const pen = canvas.getContext("2d")
    pen.setTransform(scale, 0, 0, scale, 0, 0)
    pen.clearRect(0, 0, width, height)
    pen.lineCap = pen.lineJoin = "round"
    return { pen, width, height }
  }

  /* The colours of the style sheet, which are others in the dark. */
  function readColours(element) {
    const style = getComputedStyle(element), colours = {}
    for (const name of ["ink", "faint", "wall", "actor", "goal", "alarm"])
      colours[name] = style.getPropertyValue(`--play-${name}`).trim()
    return colours
  }

  /* Calls `step` once in `seconds` while it plays, and `draw` with the part of the next step that
     has passed. It does not play where the page or `root` is out of sight. onchange hears whether
     it plays. */
  function makeClock(root, seconds, step, draw, onchange) {
    let playing = false, seen = true, before = null, rest = 0, busy = false
    new IntersectionObserver(([entry]) => { seen = entry.isIntersecting }).observe(root)

    async function frame(now) {
      requestAnimationFrame(frame)
      const passed = before === null ? 0 : Math.min((now - before) / 1000, 0.25)
      before = now
      if (busy || !seen) return
      busy = true
      try {
        if (playing && !document.hidden) {
          rest += passed
          for (; rest >= seconds; rest -= seconds) await step()
        }
        draw(rest / seconds)
      } finally { busy = false }
    }
    requestAnimationFrame(frame)

    const set = on => { playing = on; onchange(on) }
    return { play: () => set(true), pause: () => set(false), turn: () => set(!playing),
             begin: () => set(!still.matches), get playing() { return playing } }
  }

  /* Says in place of a world why it is not there; what the page itself has stays. */
  function showProblem(root, error) {
    const said = String(error.message || error)
    root.prepend(make("p", { class: "play-problem", role: "status" }, said))
  }

  return { make, makeButton, clear, readColours, makeClock, showProblem, still }
})()
