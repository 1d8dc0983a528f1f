#!/usr/bin/env bats
# The runtime-spec's JSON schema: what husk writes is valid, and there is no field of config.json that
# husk does not read.

load helpers

setup_file() { make_base; }
setup() { setup_test; }
teardown() { check_nothing_left; }

schema() { PYTHONDONTWRITEBYTECODE=1 python3 "$PY/spec_schema.py" "$@"; }

@test "config.md: the configuration that husk writes is valid" {
	schema valid config "$SPEC"
}

@test "config.md: every field of the schema is read: a value of a wrong type is refused by its name" {
	bundle b
	run schema fields "$HUSK" "$B"
	status_is 0
	[[ ${output%% *} -gt 200 ]]
}

@test "runtime.md, \"State\": the state is valid, created and stopped; ociVersion, id, status, pid, bundle, annotations" {
	bundle c '.annotations = {"org.example.key": "value"}' true
	husk create -b "$B" c </dev/null >/dev/null
	husk state c >"$T/state"
	schema valid state "$T/state"
	jq -e --arg b "$B" '.id == "c" and .status == "created" and .pid > 1 and .bundle == $b
		and .annotations == {"org.example.key": "value"} and (.ociVersion | startswith("1."))' "$T/state"
	husk start c
	wait_until is_stopped c
	husk state c >"$T/state"
	schema valid state "$T/state"
	is stopped "$(jq -r .status "$T/state")"
	husk delete c
	run --separate-stderr husk state c
	one_error 'container "c" does not exist'
}
