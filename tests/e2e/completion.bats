#!/usr/bin/env bats
# Completion of command lines (contrib/completion/husk.bash).

load helpers

setup_file() { make_base; }
setup() { setup_test; }
teardown() { check_nothing_left; }

# completes WORD...: what the last word may become, the command's name first; sorted, in one line.
completes() {
	bash -c '. "$1" && shift
		COMP_WORDS=("$@") COMP_CWORD=$(($# - 1))
		_husk && printf "%s\n" "${COMPREPLY[@]}"' _ "$TREE/contrib/completion/husk.bash" "$HUSK" "$@" | LC_ALL=C sort | xargs
}

@test "verbs, flags, values and containers are completed" {
	is "start state" "$(completes st)"
	is "pause ps" "$(completes --root /x --debug p)"
	is "--log --log-format" "$(completes --lo)"
	is "kvm" "$(completes --engine k)"
	is "json text" "$(completes --log-format '')"
	is "--force --help" "$(completes delete --)"
	has "-f" "$(completes delete -)"
	is "json table" "$(completes ps --format '')"
	mkdir -p "$T/dir" "$T/other"
	is "$T/dir" "$(completes run --bundle "$T/d")"
	is "$T/dir" "$(completes run -b "$T/d")"
	for verb in $("$HUSK" --help | sed -n '/^verbs:/,/^$/s/^  \([a-z]*\) .*/\1/p'); do
		has "--help" "$(completes "$verb" --)"
	done
}

@test "names are those below --root" {
	bundle c . sleep 1000
	husk create -b "$B" one </dev/null >/dev/null 2>&1
	is one "$(completes --root "$ROOT" delete o)"
	is "" "$(completes --root "$T/none" delete o)"
	husk delete --force one
}
