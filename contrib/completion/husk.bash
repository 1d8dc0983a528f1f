# shellcheck shell=bash
# Completion of husk's command line for bash. What there is to complete is asked of husk itself: its help, and the
# list of containers below --root.

_husk() {
	local husk=${COMP_WORDS[0]} word=${COMP_WORDS[COMP_CWORD]} before=${COMP_WORDS[COMP_CWORD - 1]}
	local verb='' root=() flags values='' i
	COMPREPLY=()

	for ((i = 1; i < COMP_CWORD; i++)); do
		case ${COMP_WORDS[i]} in
		--root) root=(--root "${COMP_WORDS[++i]}") ;;
		--log | --log-format | --engine | --kernel | --rootless | --criu) ((i++)) ;;
		-*) ;;
		*)
			verb=${COMP_WORDS[i]}
			break
			;;
		esac
	done

	# The flag before this word may want a value: a choice of words, or a path.
	flags=$("$husk" ${verb:+"$verb"} --help 2>/dev/null | sed -n 's/^  \(-[^ ,]*\(, -[^ ]*\)\?\( [^ ]*\)\?\)  .*/\1/p')
	if [[ $before == -* ]]; then
		values=$(sed -n "s/^\(.*, \)\?$before\(, -[^ ]*\)\? \([^ ]*\)\$/\3/p" <<<"$flags")
	fi
	case $values in
	'') ;;
	*'|'*)
		mapfile -t COMPREPLY < <(compgen -W "${values//|/ }" -- "$word")
		return
		;;
	DIR)
		mapfile -t COMPREPLY < <(compgen -d -- "$word")
		return
		;;
	*)
		mapfile -t COMPREPLY < <(compgen -f -- "$word")
		return
		;;
	esac

	if [[ $word == -* ]]; then
		mapfile -t COMPREPLY < <(compgen -W "$(grep -oE -- '(^|, )-[^ ,]+' <<<"$flags" | tr -d ', ') --help" -- "$word")
	elif [[ -z $verb ]]; then
		mapfile -t COMPREPLY < <(compgen -W "$("$husk" --help 2>/dev/null | sed -n '/^verbs:/,/^$/s/^  \([a-z]*\) .*/\1/p')" -- "$word")
	else
		mapfile -t COMPREPLY < <(compgen -W "$("$husk" "${root[@]}" list --quiet 2>/dev/null)" -- "$word")
	fi
}

complete -F _husk husk
