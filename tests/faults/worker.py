"""A process that trains, resumes and looks, as it is told line by line, under faults.

A line of JSON in is {"do": NAME, "args": [...], "fault": {...} or null}, a line out what came of
it: {"seen": ..., "error": [KIND, TEXT] or null, "warned": [...], "operations": N}.
"""

import ctypes
import json
import os
import sys
import traceback
import warnings

ANSWERS = os.fdopen(os.dup(1), "w")
os.dup2(2, 1)  # what libraries print is no answer

from tests.faults import folders, subjects  # noqa: E402

ACTIONS = {
    "train": subjects.train,
    "resume": subjects.resume,
    "export": subjects.export,
    "look": subjects.look,
    "read everything": folders.read_everything,
    "forge": folders.forge,
}
HOWS = ("count", "kill", "half", "one", "rest", "images")


def arm(
    folder: str = "", how: str = "count", at: int = 0, error: int = 0, copies="", log=""
) -> int:
    """Arms the shim, or disarms it, and returns how many operations it had counted."""
    shim = ctypes.CDLL(None)
    count = shim.faults_count()
    words = [os.fsencode(x) for x in (folder, copies, log)]
    shim.faults_arm(words[0], HOWS.index(how), ctypes.c_long(at), error, *words[1:])
    return count


def answer(asked: dict) -> dict:
    """Does what is asked, and says what came of it."""
    seen, error = None, None
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        try:
            if asked["fault"]:
                arm(**asked["fault"])
            seen = ACTIONS[asked["do"]](*asked["args"])
        except Exception as problem:
            error = [folders.kind_of(problem), str(problem), traceback.format_exc()]
        finally:
            count = arm() if asked["fault"] else 0
    told = [str(w.message) for w in warned if w.category is UserWarning]
    seen = seen if isinstance(seen, (dict, list)) else None
    return {"seen": seen, "error": error, "warned": told, "operations": count}


def main() -> None:
    subjects.draw_no_curves()
    for line in sys.stdin:
        print(json.dumps(answer(json.loads(line)), default=str), file=ANSWERS, flush=True)


if __name__ == "__main__":
    main()
