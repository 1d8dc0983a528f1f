#!/usr/bin/env bats
# husk-agent with several containers in one guest, made straight through its protocol. What each case
# does is in agent_pod_cases.py.

setup() {
	dir=$(mktemp -d "${BATS_TMPDIR:-/tmp}/husk-agent-pod.XXXXXX")
}

teardown() {
	rm -rf "$dir" "$dir.out"
}

case_() {
	local status=0
	PYTHONDONTWRITEBYTECODE=1 python3 "$BATS_TEST_DIRNAME/agent_pod_cases.py" "$1" "$dir" \
		>"$dir.out" || status=$?
	((status != 77)) || skip "$(cat "$dir.out")"
	return "$status"
}

@test "a container is in the namespaces that it joins, and its exec'd processes are" { case_ namespaces_are_joined; }
@test "containers of one user namespace may do to each other what those without one may" { case_ a_user_namespace_is_joined; }
@test "who shares processes ends alone, and with the container whose they are" { case_ ends_in_a_shared_pid_namespace; }
@test "one that is out of memory is killed, its neighbours and the agent are not" { case_ out_of_memory; }
@test "a disk that never comes, a pause and a delete delay nobody else" { case_ nobody_is_delayed; }
@test "twenty containers at once, and nothing of them is left" { case_ twenty_at_once; }
@test "projects are each container's own, a tmpfs of the pod is everybody's" { case_ files; }
