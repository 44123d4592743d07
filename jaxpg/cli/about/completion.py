"""`jaxpg completion SHELL`: scripts by which bash, zsh and fish complete the command.

The names of commands, agents, environments, options and their choices are written into the script:
to press Tab starts no Python.
"""

import contextlib
import dataclasses
import inspect
import typing
from collections.abc import Callable
from typing import Any

from tyro.conf import Positional

from jaxpg.cli.about.usage import options_of

WORDS = dict[str, str]  # what may come, with blanks between; by what stands there


class Tables(typing.NamedTuple):
    """Words that a shell may complete, by their place in a command."""

    commands: str
    agents: str
    environments: str
    options: WORDS  # of a command
    config: WORDS  # of an agent: --config.FIELD ...
    choices: WORDS  # of an option


def write_script(shell: str, functions: dict[str, Callable]) -> str:
    """The script for a shell. functions: of the commands, by name, whose options they have."""
    return {"bash": _bash, "zsh": _zsh, "fish": _fish}[shell](collect(functions))


def collect(functions: dict[str, Callable]) -> Tables:
    """Collects what the command knows."""
    from jaxpg import agents
    from jaxpg.envs import registry

    options = {name: _options(function) for name, function in functions.items()}
    fields, config, choices = {}, {}, {}
    for name in agents.names():
        config[name] = []
        with contextlib.suppress(ValueError):  # of an installed package that does not work
            fields[name] = dataclasses.fields(agents.get(name).Config)
        for field in fields.get(name, ()):
            if field.name == "total_steps":
                continue
            option = f"--config.{field.name.replace('_', '-')}"
            config[name].append(option)
            known = choices.setdefault(option, [])
            known += [x for x in map(str, field.metadata.get("choices") or ()) if x not in known]
    choices = {option: known for option, known in choices.items() if known}
    choices["--env"] = registry.names()
    join = lambda table: {name: " ".join(words) for name, words in table.items()}  # noqa: E731
    return Tables(
        " ".join([*functions, "--help", "--version"]), " ".join(config),
        " ".join(registry.names()), join(options), join(config), join(choices),
    )  # fmt: skip


def _options(function: Callable) -> list[str]:
    parameters = inspect.signature(function).parameters
    words = {f"--{n.replace('_', '-')}" for n, x in parameters.items() if _is_word(x)}
    if "env_name" in parameters:
        words |= {"--agent", "--env-name", "--config"}
    return [*(x for x in options_of(function) if x not in words), "--help"]


def _is_word(parameter: inspect.Parameter) -> bool:
    """True for a parameter that the command line has without a name: a run, an agent."""
    metadata: Any = getattr(parameter.annotation, "__metadata__", ())
    return Positional[int].__metadata__[0] in metadata  # type: ignore


def _cases(table: WORDS, indent: str, line: str) -> str:
    """Branches of a `case`, of bash and zsh alike. line: what is done with the words."""
    return "".join(f"{indent}{name}) {line.format(words)} ;;\n" for name, words in table.items())


def _bash(t: Tables) -> str:
    add = 'words="$words {}"'
    return f"""\
# Completion of jaxpg for bash: source <(jaxpg completion bash)
_jaxpg() {{
    local word="${{COMP_WORDS[COMP_CWORD]}}" before="${{COMP_WORDS[COMP_CWORD-1]}}" words=""
    COMPREPLY=()
    if [ "$COMP_CWORD" -eq 1 ]; then
        COMPREPLY=($(compgen -W "{t.commands}" -- "$word"))
        return
    fi
    case "$before" in
{_cases(t.choices, "        ", 'COMPREPLY=($(compgen -W "{}" -- "$word")); return')}    esac
    if [[ "$word" == -* ]]; then
        case "${{COMP_WORDS[1]}}" in
{_cases(t.options, " " * 12, add)}        esac
        case "${{COMP_WORDS[1]}}" in
            train|sweep|tune)
                case "${{COMP_WORDS[2]}}" in
{_cases(t.config, " " * 20, add)}                esac ;;
        esac
    else
        case "${{COMP_WORDS[1]}}:$COMP_CWORD" in
            train:2|sweep:2|tune:2|compare:*) words="{t.agents}" ;;
            train:3|sweep:3|tune:3) words="{t.environments}" ;;
            completion:2) words="bash zsh fish" ;;
            *) return ;;
        esac
    fi
    COMPREPLY=($(compgen -W "$words" -- "$word"))
}}
complete -o default -F _jaxpg jaxpg
"""


def _zsh(t: Tables) -> str:
    add = "known+=({})"
    return f"""\
#compdef jaxpg
# Completion of jaxpg for zsh: a file _jaxpg in a folder of $fpath.
_jaxpg() {{
    local -a known
    if (( CURRENT == 2 )); then
        compadd -- {t.commands}
        return
    fi
    case "${{words[CURRENT-1]}}" in
{_cases(t.choices, "        ", "compadd -- {}; return")}    esac
    if [[ "${{words[CURRENT]}}" == -* ]]; then
        case "${{words[2]}}" in
{_cases(t.options, " " * 12, add)}        esac
        case "${{words[2]}}" in
            train|sweep|tune)
                case "${{words[3]}}" in
{_cases(t.config, " " * 20, add)}                esac ;;
        esac
        compadd -- $known
        return
    fi
    case "${{words[2]}}:$CURRENT" in
        train:3|sweep:3|tune:3|compare:*) compadd -- {t.agents} ;;
        train:4|sweep:4|tune:4) compadd -- {t.environments} ;;
        completion:3) compadd -- bash zsh fish ;;
        *) _files ;;
    esac
}}
if [ "$funcstack[1]" = "_jaxpg" ]; then
    _jaxpg "$@"
else
    compdef _jaxpg jaxpg
fi
"""


def _fish(t: Tables) -> str:
    lines = [
        "# Completion of jaxpg for fish: ~/.config/fish/completions/jaxpg.fish",
        "function __jaxpg_at; test (count (commandline -opc)) -eq $argv[1]; end",
        "function __jaxpg_is; set -l x (commandline -opc); contains -- $x[2] $argv; end",
        "function __jaxpg_trains; __jaxpg_is train sweep tune; end",
        "function __jaxpg_agent; set -l x (commandline -opc); __jaxpg_trains; "
        'and test (count $x) -gt 2; and test "$x[3]" = $argv[1]; end',
        f"complete -c jaxpg -f -n '__jaxpg_at 1' -a '{t.commands}'",
        f"complete -c jaxpg -f -n '__jaxpg_trains; and __jaxpg_at 2' -a '{t.agents}'",
        f"complete -c jaxpg -f -n '__jaxpg_trains; and __jaxpg_at 3' -a '{t.environments}'",
        f"complete -c jaxpg -f -n '__jaxpg_is compare' -a '{t.agents}'",
        "complete -c jaxpg -f -n '__jaxpg_is completion; and __jaxpg_at 2' -a 'bash zsh fish'",
    ]
    for tables, test in ((t.options, "__jaxpg_is"), (t.config, "__jaxpg_agent")):
        for name, words in tables.items():
            for word in words.split():
                values = f" -x -a '{t.choices[word]}'" if word in t.choices else ""
                lines.append(f"complete -c jaxpg -n '{test} {name}' -l {word[2:]}{values}")
    return "\n".join(lines) + "\n"
