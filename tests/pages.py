"""Programs in the pages: found, checked without running, and run at a tiny size.

python -m tests.pages PAGE [bash] [python]      runs the blocks of a page, in order, in this folder
python -m tests.pages examples/NAME.py          runs an example

A page stays as a reader pastes it. What is long is made tiny here: keywords like `total_steps` in
Python, options like `--total-steps` in commands, and the constants of an example (EXAMPLES). The
comment `<!-- not run: why -->` above a block keeps it from running, not from being checked;
`<!-- needs: module, module -->` lets it run where these are installed.
"""

import ast
import builtins
import contextlib
import functools
import importlib.util
import inspect
import pkgutil
import re
import shlex
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[1]
# Lessons run when the site is built: see docs/theme/course.py.
LESSONS = sorted(f"docs/course/{path.name}" for path in (ROOT / "docs" / "course").glob("*.md"))
PAGES = [
    *("README.md", "CONTRIBUTING.md"),
    *sorted(f"docs/{path.name}" for path in (ROOT / "docs").glob("*.md")),
    *LESSONS,
]
FENCE = re.compile(
    r"^(?:<!-- (not run|needs): ([^>]+) -->\n)?```(python|bash)\n(.*?)^```", re.S | re.M
)
INLINE = re.compile(r"`((?:jaxpg|python) [^`]+)`")
NAMED = re.compile(r"\b([\w/]+\.py):([A-Za-z_][\w.]*)")  # file:function
ROOMS = "jaxpg|core|nets|ops|loops|replay|envs|agents|experiment|presets|cli"
DOTTED = re.compile(rf"`((?:{ROOMS})(?:\.\w+)+)")  # a name in backticks
PATH = re.compile(r"`((?:\w+/)+[\w.]+\.(?:py|json|toml|md))")
FOLDER = re.compile(r"\b(?:runs|sweeps|comparisons)/\w[\w-]*")

EXTRAS = ("onnxruntime",)  # imported by pages, and not always installed
KEYWORDS = {"total_steps": 1024, "episodes": 16, "trials": 2, "budget_steps": 90_000}
OPTIONS = {"--total-steps": 8192, "--seeds": 2, "--evaluations": 1}
TRAINS = ("train", "sweep", "compare")
# An example: its arguments, and statements that are executed in it before `main`.
EXAMPLES = {
    "almgren_chriss": (
        "--seeds 1 --agents cem",
        "CONFIGS['cem'] = ({'episodes': 4, 'num_steps': 5, 'hidden': (8,)}, 64 * 4 * 5)",
    ),
    "central_critic": ("--batches 4", "FITTING = 2; SHARED['num_envs'] = 4"),
    "cliff": ("--seeds 2 --total-steps 20000", ""),
    "compare": ("--seeds 2 --agents a2c q_learning --total-steps 8192", ""),
    "liquidation_game": (
        "--sellers 2",
        "CFG = jaxpg.cem.Config(episodes=4, num_steps=5, hidden=(8,)); TOTAL = 2 * 64 * 4 * 5",
    ),
    "options": ("--total-steps 200", ""),
    "own_agent": ("--seeds 2 --total-steps 2048 --out own", ""),
    "own_environment": ("--seeds 2 --total-steps 2048", ""),
    "own_network": ("--seeds 2 --total-steps 2048", ""),
    "phase_portraits": (
        "--batch 4",
        "STEPS = {name: steps[::100] for name, steps in STEPS.items()}; SAMPLES = 2",
    ),
    "policy_search": (
        "--seeds 2",
        "SEARCHES = {name: (2, fields) for name, (_, fields) in SEARCHES.items()};"
        "JUDGE = jaxpg.cem.Config(episodes=1, num_steps=20)",
    ),
    "portfolio": (
        "--seeds 1",
        "CFG = jaxpg.cem.Config(population=4, elites=2, episodes=4, num_steps=STEPS);"
        "TOTAL = 2 * 4 * 4 * STEPS",
    ),
    "state_noise": ("--every 20", ""),
    "studies": (
        "network --seeds 2",
        "STUDIES['network'] = Study('CartPole-v1', 1024, {'hidden': [[], [4]]})",
    ),
    "transfer": ("--seeds 2 --total-steps 2048", ""),
    "two_passages": ("--steps 600", ""),
    "variance_reduction": (
        "--episodes 16",
        "STEPS = 512; CRITICS = {'good': 16, 'rough': 4}",
    ),
    "vtrace": ("--seeds 2 --total-steps 2048", "LAGS = (0, 4)"),
}


class Block(NamedTuple):
    kind: str  # "python" or "bash"
    text: str
    line: int  # of the page, where the text begins
    runs: bool


def blocks(page: str) -> list[Block]:
    """The fenced blocks of a page, in order."""
    text = (ROOT / page).read_text()
    return [
        Block(m[3], m[4], text[: m.start(4)].count("\n") + 1, runs(m[1], m[2]))
        for m in FENCE.finditer(text)
    ]


def runs(word: str | None, what: str) -> bool:
    """Whether a block runs here, by the comment above it."""
    return word is None or (
        word == "needs" and all(map(importlib.util.find_spec, what.split(", ")))
    )


def commands(block: Block) -> list[list[str]]:
    """The words of the `jaxpg` and `python` lines of a bash block, without `srun`."""
    lines = (line.removeprefix("srun ") for line in block.text.splitlines())
    return [shlex.split(line) for line in lines if line.startswith(("jaxpg ", "python "))]


def inline_commands(page: str) -> list[list[str]]:
    """The commands between backticks, of a name alone its help; not those that leave words out."""
    found = INLINE.findall(FENCE.sub("", (ROOT / page).read_text()))
    words = [shlex.split(x) for x in found if "..." not in x and not re.search("AGENT|COMMAND", x)]
    return [x if len(x) > 2 or x[0] == "python" else [*x, "--help"] for x in words]


def named(page: str) -> list[tuple[str, str]]:
    """What a page calls file:function, in order; files are of the package."""
    return NAMED.findall((ROOT / page).read_text())


def lost(page: str) -> set[str]:
    """The names `room.module.name` and paths in backticks that lead nowhere; NAME is anybody's."""
    text = (ROOT / page).read_text()
    names = {x for x in DOTTED.findall(text) if not x.endswith((".py", ".toml"))}
    found = {x for x in names if importable(f"jaxpg.{x.removeprefix('jaxpg.')}")}
    folders = [ROOT, ROOT / "jaxpg", ROOT / "docs", ROOT / "tests"]
    paths = set(PATH.findall(text))
    found |= {x for x in paths if any((folder / x).exists() for folder in folders)}
    return {x for x in (names | paths) - found if not re.search("NAME|AGENT", x)}


def importable(name: str) -> bool:
    """Whether a dotted name is a module, or what a module has."""
    try:
        pkgutil.resolve_name(name)
    except (ImportError, AttributeError):
        return False
    return True


# Checked without running.


def defines(file: str, name: str) -> bool:
    """Whether a file of the package defines a function or class, or a class one of its members."""
    body = ast.parse((ROOT / "jaxpg" / file).read_text()).body
    for part in name.split("."):
        body = next((x.body for x in body if getattr(x, "name", None) == part), None)
        if body is None:
            return False
    return True


def undefined(tree: ast.AST, known: set[str]) -> set[str]:
    """The names that are read and neither defined in `tree` nor `known`, which gets its own."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Name) and not isinstance(node.ctx, ast.Load):
            known.add(node.id)
        elif isinstance(node, ast.FunctionDef | ast.ClassDef):
            known.add(node.name)
        elif isinstance(node, ast.arg):
            known.add(node.arg)
        elif isinstance(node, ast.ExceptHandler) and node.name:
            known.add(node.name)
        elif isinstance(node, ast.Import | ast.ImportFrom):
            known.update((x.asname or x.name).split(".")[0] for x in node.names)
    read = {x.id for x in ast.walk(tree) if isinstance(x, ast.Name)}
    return read - known - set(vars(builtins))


def resolve(node: ast.AST, modules: dict) -> object:
    """The object that `a.b.c` names, if `a` was imported; else None. Raises AttributeError."""
    if isinstance(node, ast.Name):
        return modules.get(node.id)
    if not isinstance(node, ast.Attribute):
        return None
    owner = resolve(node.value, modules)
    return None if owner is None else getattr(owner, node.attr)


def root(node: ast.Import | ast.ImportFrom) -> str:
    """The package that is imported."""
    name = node.module if isinstance(node, ast.ImportFrom) else node.names[0].name
    return name.split(".")[0]


def check_names(tree: ast.AST, modules: dict) -> None:
    """Imports, names in what was imported, and arguments of jaxpg's own functions.

    modules: the imported names so far, to which those of `tree` are added. Raises ImportError,
    AttributeError or TypeError.
    """
    for node in ast.walk(tree):
        if isinstance(node, ast.Import | ast.ImportFrom):
            with contextlib.suppress(*[ModuleNotFoundError] * (root(node) in EXTRAS)):
                exec(compile(ast.Module([node], []), "<import>", "exec"), modules)
    for node in ast.walk(tree):
        resolve(node, modules)
        if not isinstance(node, ast.Call):
            continue
        function = resolve(node.func, modules)
        spread = any(isinstance(x, ast.Starred) for x in node.args) or any(
            x.arg is None for x in node.keywords
        )
        if (getattr(function, "__module__", "") or "").startswith("jaxpg") and not spread:
            given = dict.fromkeys(x.arg for x in node.keywords)
            inspect.signature(function).bind(*node.args, **given)


def parse(words: list[str], monkeypatch) -> None:
    """Has the `jaxpg` command parse its words and do nothing. Raises ValueError if it refuses."""
    import tyro

    from jaxpg import cli

    real, parsed = tyro.cli, []

    def cli_without_call(command, **options):
        @functools.wraps(command)
        def idle(*_, **__):
            parsed.append(command)
            return lambda: 0  # the call that is to be made

        return real(idle, **options)

    with monkeypatch.context() as patch:
        patch.setattr(tyro, "cli", cli_without_call)
        try:
            code = cli.main(words[1:])
        except SystemExit as error:
            code = error.code
    if code or not (parsed or "--help" in words):
        raise ValueError(f"refused: {shlex.join(words)}")


# Run.


class Tiny(ast.NodeTransformer):
    """Makes the numbers of some keywords small."""

    def visit_keyword(self, node: ast.keyword) -> ast.keyword:
        self.generic_visit(node)
        value = node.value
        if node.arg in KEYWORDS and isinstance(value, ast.Constant) and value.value != "first":
            value.value = min(value.value, KEYWORDS[node.arg])  # "first" of REINFORCE's episodes
        return node


def shorten(words: list[str]) -> list[str]:
    """A command with fewer steps, seeds and evaluations."""
    if words[1] not in TRAINS:
        return words
    words = list(words)
    for option, most in OPTIONS.items():
        if option in words:
            at = words.index(option) + 1
            words[at] = str(min(int(words[at]), most))
        elif option != "--seeds":
            words += [option, str(most)]
    return words


def call(words: list[str]) -> None:
    from jaxpg import cli

    print("$", shlex.join(words), flush=True)
    assert cli.main(words[1:]) == 0, shlex.join(words)
    if "--out" in words:
        assert Path(words[words.index("--out") + 1]).exists(), shlex.join(words)


def make_folders(text: str) -> None:
    """Makes the run folders that `text` reads and that are not there, by their names."""
    for folder in FOLDER.findall(re.sub(r"(--out |out=f?\")\S+", "", text)):
        if Path(folder).exists():
            continue
        kind, _, name = folder.partition("/")
        agent, _, env = name.partition("-")
        words = {
            "runs": ["train", agent, env],
            "sweeps": ["sweep", "ppo", "CartPole-v1", "--grid", "learning_rate=1e-4,1e-3"],
            "comparisons": ["compare", "ppo", "a2c", "--env", name],
        }[kind]
        call(shorten(["jaxpg", *words, "--seeds", "2", "--out", folder]))


def programs(page: str, kinds: tuple[str, ...] = ("bash", "python")) -> Iterator[Block]:
    """The blocks that run, a bash block cut into its commands."""
    for block in blocks(page):
        if not block.runs or block.kind not in kinds:
            continue
        if block.kind == "python":
            yield block
        else:
            lines = (x for x in commands(block) if x[0] == "jaxpg")
            yield from (block._replace(text=shlex.join(x)) for x in lines)


def run_page(page: str, kinds: tuple[str, ...]) -> None:
    namespace = {"__name__": "__main__"}
    for block in programs(page, kinds):
        make_folders(block.text)
        if block.kind == "python":
            tree = ast.fix_missing_locations(Tiny().visit(ast.parse(block.text)))
            ast.increment_lineno(tree, block.line - 1)
            exec(compile(tree, ROOT / page, "exec"), namespace)
        else:
            call(shorten(shlex.split(block.text)))


def run_example(name: str) -> None:
    arguments, statements = EXAMPLES[name]
    spec = importlib.util.spec_from_file_location(name, ROOT / "examples" / f"{name}.py")
    module = sys.modules[name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    exec(statements, vars(module))
    sys.argv = [name, *arguments.split()]
    module.main()


if __name__ == "__main__":
    target, *wanted = sys.argv[1:]
    if target.startswith("examples/"):
        run_example(Path(target).stem)
    else:
        run_page(target, tuple(wanted) or ("bash", "python"))
