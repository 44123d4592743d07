/* From disk no page may read another one: results of the search are shown without an excerpt. */
if (location.protocol === "file:") DOCUMENTATION_OPTIONS.SHOW_SEARCH_SUMMARY = false

/* What opens a part of the menu has a sign alone; who does not see it hears what it opens. */
addEventListener("DOMContentLoaded", () => {
  for (const sign of document.querySelectorAll("summary:has(> .toctree-toggle)"))
    sign.setAttribute("aria-label", `Pages below ${sign.closest("li").querySelector("a").textContent}`)
})
