"""``fastbox completion``: scripts for shells, which ask ``fastbox __complete``."""

from __future__ import annotations

from . import output
from .command import App, FlagCommand
from .errors import CliError
from .flags import Values

# What follows the last ":" or "=" is a word of its own for readline.
_BASH = r"""# bash completion for fastbox
_fastbox() {
    local line=${COMP_LINE:0:COMP_POINT} word words head
    read -ra words <<< "$line"
    [[ $line == *[[:space:]] ]] && words+=("")
    word=${words[${#words[@]}-1]}
    head=${word%"${word##*[:=]}"}
    mapfile -t COMPREPLY < <(fastbox __complete -- "${words[@]:1}" 2> /dev/null)
    COMPREPLY=("${COMPREPLY[@]#"$head"}")
    [[ ${#COMPREPLY[@]} == 1 && $COMPREPLY == *[:/] ]] && compopt -o nospace
}
complete -o default -F _fastbox fastbox
"""
_ZSH = r"""#compdef fastbox
# zsh completion for fastbox
_fastbox() {
    local -a found
    found=(${(f)"$(fastbox __complete -- "${(@)words[2,CURRENT]}" 2> /dev/null)"})
    if (( ${#found} )); then compadd -a found; else _files; fi
}
if [[ $funcstack[1] == _fastbox ]]; then _fastbox; else compdef _fastbox fastbox; fi
"""
SCRIPTS = {"bash": _BASH, "zsh": _ZSH}


def completion(app: App, values: Values, words: list[str]) -> int:
    """Print what a shell has to read."""
    script = SCRIPTS.get(words[0])
    if script is None:
        raise CliError(f"no completion for {words[0]!r}: there is one for {', '.join(SCRIPTS)}")
    output.write(script)
    return 0


COMMAND = FlagCommand("completion", completion, "bash|zsh", least=1, most=1)
