#!/usr/bin/env bats
# husk-agent by itself, in a guest of husk-vmm: the disks of a root, changes, pushes, projects. What
# each case does is in agent_cases.py.

setup() {
	dir=$(mktemp -d "${BATS_TMPDIR:-/tmp}/husk-agent.XXXXXX")
}

teardown() {
	rm -rf "$dir" "$dir.out"
}

case_() {
	local status=0
	PYTHONDONTWRITEBYTECODE=1 python3 "$BATS_TEST_DIRNAME/agent_cases.py" "$1" "$dir" \
		>"$dir.out" || status=$?
	((status != 77)) || skip "$(cat "$dir.out")"
	return "$status"
}

@test "changes of a container, while it runs and when it has ended" { case_ changes_of_a_root; }
@test "changes are what was there when the last process had ended" { case_ changes_wait_for_the_last_writer; }
@test "three layers lie over one another, with their whiteouts" { case_ several_lowers; }
@test "a root may be ext4, xfs or squashfs, and is never written to" { case_ other_lowers; }
@test "hard links of the lower stay together, if asked for" { case_ links_stay_together; }
@test "what a container synced outlives its machine, and is read by another" { case_ recovery; }
@test "a disk that is in use or is none is refused" { case_ disks_that_are_refused; }
@test "a push is seen by the running container" { case_ push_to_a_root; }
@test "a disk that was released is detached, and attached again" { case_ a_disk_is_released; }
@test "projects: pushed, bound, changed inside, fetched" { case_ projects; }
@test "a stream that nobody reads delays neither others nor delete" { case_ a_stuck_stream; }
