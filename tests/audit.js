// What a reader with a keyboard, a screen reader or weak eyes would miss on a page: a list of words.
(() => {
  const wrong = []
  const say = (what, x) => wrong.push(`${what}: ${(x.outerHTML ?? x).slice(0, 120)}`)
  const all = (selector) => [...document.querySelectorAll(selector)]
  const shown = (x) => x.checkVisibility({ visibilityProperty: true, opacityProperty: true })
  const named = (x) =>
    [x.ariaLabel, x.textContent, x.title, x.value, ...[...x.querySelectorAll("img")].map((i) => i.alt)]
      .some((said) => said?.trim())

  if (!document.documentElement.lang) say("no language", "html")
  if (!document.title.trim()) say("no title", "head")
  const heads = all("main :is(h1, h2, h3, h4, h5, h6)")
  if (heads.filter((x) => x.tagName === "H1").length !== 1) say("not one first heading", "main")
  heads.reduce((above, x) => {
    const level = Number(x.tagName[1])
    if (level > above + 1) say("a level of headings is left out", x)
    return level
  }, 0)
  for (const x of document.images) if (!x.alt && !x.closest("a")) say("no text for", x)
  for (const x of all("a[href], button, summary")) if (shown(x) && !named(x)) say("no name", x)
  for (const x of all("input, select, textarea"))
    if (shown(x) && !x.labels?.length && !x.ariaLabel && !x.title && !x.placeholder) say("no label", x)
  for (const x of all("[tabindex]")) if (x.tabIndex > 0) say("out of the order of tabs", x)
  const ids = all("[id]").map((x) => x.id)
  ids.filter((x, i) => ids.indexOf(x) !== i).forEach((x) => say("twice", x))

  // Contrast of text with what is behind it, WCAG 2.2, 1.4.3: 4.5, of large text 3.
  const parse = (colour) => {
    const [r, g, b, a = 1] = colour.match(/[\d.]+/g).map(Number)
    return [r, g, b, a]
  }
  const over = (top, below) => [0, 1, 2].map((i) => top[i] * top[3] + below[i] * (1 - top[3])).concat(1)
  const luminance = (colour) => {
    const [r, g, b] = colour.map((v) => v / 255).map((v) => (v <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4))
    return 0.2126 * r + 0.7152 * g + 0.0722 * b
  }
  const behind = (x) => {
    const layers = []
    for (let e = x; e; e = e.parentElement) {
      layers.push(parse(getComputedStyle(e).backgroundColor))
      if (layers.at(-1)[3] === 1) break
    }
    return layers.reduceRight((below, top) => over(top, below), [255, 255, 255, 1])
  }
  const seen = new Set()
  const walk = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT)
  while (walk.nextNode()) {
    const x = walk.currentNode.parentElement
    if (!walk.currentNode.textContent.trim() || seen.has(x) || !shown(x)) continue
    seen.add(x)
    const style = getComputedStyle(x)
    const size = parseFloat(style.fontSize)
    const large = size >= 24 || (size >= 18.66 && Number(style.fontWeight) >= 700)
    const [low, high] = [behind(x), over(parse(style.color), behind(x))].map(luminance).sort((a, b) => a - b)
    const ratio = (high + 0.05) / (low + 0.05)
    if (ratio < (large ? 3 : 4.5)) say(`contrast ${ratio.toFixed(2)}`, x)
  }
  return wrong
})()
