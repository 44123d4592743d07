"""Numbers and lists as text for people."""


def format_count(number: float) -> str:
    """Formats a count for people: 950, 1.5k, 100k, 1.23M."""
    for size, unit in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if number >= 0.9995 * size:
            return f"{number / size:.3g}{unit}"
    return f"{number:.3g}"
