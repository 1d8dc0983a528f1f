#!/usr/bin/env bats
# husk-vmm by itself, driven through its boot socket, lifeline and control socket. What each case
# does is in vmm_cases.py.

setup() {
	dir=$(mktemp -d "${BATS_TMPDIR:-/tmp}/husk-vmm.XXXXXX")
}

teardown() {
	rm -rf "$dir" "$dir.out"
}

case_() {
	local status=0
	PYTHONDONTWRITEBYTECODE=1 python3 "$BATS_TEST_DIRNAME/vmm_cases.py" "$1" "$dir" \
		>"$dir.out" || status=$?
	((status != 77)) || skip "$(cat "$dir.out")"
	return "$status"
}

@test "a machine boots, is described, and ends at once when it is shut down" { case_ boots_and_shuts_down; }
@test "QEMU runs without privileges, files, mounts and network" { case_ qemu_is_jailed; }
@test "two sandboxes never share a uid" { case_ two_vms_have_two_uids; }
@test "disks are attached to the running guest and detached" { case_ disks_come_and_go; }
@test "what the guest flushes and discards reaches the host" { case_ what_the_guest_flushes_and_discards_reaches_the_host; }
@test "a limited disk is as fast as its limit, and no faster" { case_ a_limited_disk_is_as_fast_as_its_limit; }
@test "a disk may be attached before the guest looks for it" { case_ disks_may_come_before_the_guest; }
@test "the guest has the host's time and timers that fire" { case_ the_guest_knows_the_time; }
@test "streams to the agent open, carry data, survive a pause and end with the machine" { case_ the_agent_answers; }
@test "a tree is a disk whose held files stay readable" { case_ a_tree_is_a_disk; }
@test "a tree that is none is refused" { case_ a_tree_that_is_none_is_refused; }
@test "a directory is shared by virtio-fs, both ways" { case_ a_directory_is_shared_by_virtiofs; }
@test "a socket that goes nowhere is refused as virtiofsd's" { case_ a_socket_that_goes_nowhere_is_no_virtiofsd; }
@test "the end of virtiofsd is told and ends the sandbox" { case_ the_end_of_virtiofsd_is_told; }
@test "slots are handed out by kind, and a read-only disk may use a writable one" { case_ slots_are_handed_out_by_kind; }
@test "pause stops the guest and resume lets it go on" { case_ pause_stops_the_guest; }
@test "a flood on the console keeps its last 8 KiB" { case_ console_is_bounded; }
@test "a guest that resets ends the sandbox with its console" { case_ guest_reset_is_told; }
@test "a guest kernel's panic is named" { case_ guest_panic_is_told; }
@test "a panic is named without a console, too" { case_ last_words_need_no_console; }
@test "why the agent gave up is told" { case_ the_agents_end_is_told; }
@test "why the agent gave up is told without a console, too" { case_ the_agents_end_is_told_without_a_console; }
@test "a triple fault is told, with where it was" { case_ a_triple_fault_is_told; }
@test "a reset by the keyboard controller is told" { case_ a_reset_by_the_keyboard_controller_is_told; }
@test "a machine has eight vCPUs" { case_ eight_vcpus_run; }
@test "a machine has memory above 4 GiB" { case_ memory_lies_above_the_hole; }
@test "every slot can have a device" { case_ every_slot_can_have_a_device; }
@test "16 disks come and go, again and again" { case_ sixteen_disks_come_and_go; }
@test "exits to user space are counted, and few" { case_ exits_are_counted; }
@test "memory that the guest frees goes back to the host" { case_ freed_memory_goes_back_to_the_host; }
@test "a balloon takes memory and gives it back" { case_ a_balloon_takes_memory_and_gives_it_back; }
@test "a guest that needs its memory takes it from the balloon" { case_ a_guest_that_needs_its_memory_takes_it_from_the_balloon; }
@test "SIGKILL on husk-vmm leaves no QEMU" { case_ killed_vmm_leaves_nothing; }
@test "SIGKILL on husk-vmm leaves nothing at any moment of the start" { case_ killed_vmm_leaves_nothing_at_any_time; }
@test "SIGKILL on QEMU is told and ends husk-vmm" { case_ killed_qemu_is_told; }
@test "a QEMU that does not answer is shut down all the same" { case_ stopped_qemu_can_be_shut_down; }
@test "the end of the lifeline ends the sandbox" { case_ lifeline_ends_all; }
@test "SIGTERM ends the sandbox, SIGINT does not" { case_ sigterm_ends_all; }
@test "a kernel that is none is refused" { case_ garbage_kernel_is_explained; }
@test "a missing or broken QEMU is explained" { case_ missing_qemu_is_explained; }
@test "requests that make no sense are refused by name" { case_ bad_requests_are_refused; }
@test "64 clients are served at once, and broken framing ends one alone" { case_ clients_are_served_and_bounded; }
@test "a client that does not read blocks nobody" { case_ a_client_that_does_not_read_blocks_nobody; }
@test "connects wait for the guest, to a deadline, and end with the sandbox" { case_ connects_wait_for_the_guest_and_no_longer; }
@test "the boot client may leave" { case_ the_boot_client_may_leave; }
@test "no inherited descriptor is kept open" { case_ nothing_is_kept_open; }
