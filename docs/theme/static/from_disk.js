/* From disk no page may read another one: results of the search are shown without an excerpt. */
if (location.protocol === "file:") DOCUMENTATION_OPTIONS.SHOW_SEARCH_SUMMARY = false
