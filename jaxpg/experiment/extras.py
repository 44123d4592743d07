"""Optional packages, which `pip install 'jaxpg[EXTRA]'` brings."""

import importlib.util


def require_extra(extra: str, package: str, what: str) -> None:
    """Raises ImportError, with the command that installs it, if the package of an extra is missing.

    what: what needs it, the subject of the message.
    """
    if importlib.util.find_spec(package) is None:
        raise ImportError(f"{what} needs the extra: pip install 'jaxpg[{extra}]'")
