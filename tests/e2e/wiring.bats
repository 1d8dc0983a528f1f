#!/usr/bin/env bats
# TAPs and their wiring to links of a namespace (netns/tap.h), without a machine: build/tests/wire-guest
# carries what comes out of the TAP to a namespace that stands for the guest's kernel, and back.
#
#   lan  v0 ── eth0  ct  husk-tapN ── wire-guest ── eth0  vm
#
# ct's and vm's links have the same addresses, as a container's namespace and its guest do.

load helpers
load netns

WIRE_GUEST=$TREE/build/tests/wire-guest

setup_file() {
	make_base
	rm -rf "$ROOTFS"
}

setup() {
	setup_test
	[[ -w /dev/net/tun ]] || skip "no /dev/net/tun"
	make_netns lan ct vm
}

teardown() {
	local pid
	for pid in $PIDS; do kill -9 "$pid" 2>/dev/null; done
	end_netns
	check_nothing_left
}
PIDS=

# ---- guests

# guest [OPTION...] LINK [NS VM]: its words go to $TELL, its answers to $T/guest-LINK.
guest() {
	local args=() ns=(ct vm)
	while [[ $1 == --* ]]; do
		args+=("$1")
		if [[ $1 != --offload ]]; then
			args+=("$2")
			shift
		fi
		shift
	done
	(($# < 3)) || ns=("$2" "$3")
	local answers=$T/guest-$1 in=$T/in-$1
	rm -f "$in"
	: >"$answers" # nothing of the guest before
	mkfifo "$in"
	"$WIRE_GUEST" "${args[@]}" "$T/ns/${ns[0]}" "$1" "$T/ns/${ns[1]}" <"$in" >"$answers" 2>&1 3>&- &
	GUEST=$! PIDS+=" $!" ANSWERS=$answers
	exec {TELL}>"$in"
	wait_until grep -qE '^(ready|error)' "$answers"
	grep -q ^ready "$answers" || { cat "$answers" && return 1; }
}

# tell WORD: the last guest's answer.
tell() {
	local lines
	lines=$(wc -l <"$ANSWERS")
	echo "$1" >&"$TELL"
	WAIT_S=$((WAIT_S * 4)) wait_until more_lines "$ANSWERS" "$lines" # "rounds" has much to do
	tail -n 1 "$ANSWERS"
}
more_lines() { (($(wc -l <"$1") > $2)); }

# The guest ends as a container does: its links are unwired.
end_guest() {
	echo quit >&"${1:-$TELL}"
	wait_until gone "${2:-$GUEST}"
}

kill_guest() {
	kill -9 "$GUEST"
	wait_until gone "$GUEST"
}

mac_of() { in_ns "$1" ip -j link show "$2" | jq -r '.[].address'; }
more_packets() { (($(packets "$1" "$2" "$3") > $4)); }
packets() { in_ns "$1" ip -s -j link show "$2" | jq ".[].stats64.$3.packets"; } # NS LINK rx|tx

# settled NS LINK...: the kernel has found out that they have a carrier, which it may do some time later.
settled() {
	local l
	for l in "${@:2}"; do wait_until has_carrier "$1" "$l"; done
}
has_carrier() { [[ $(in_ns "$1" ip -br link show "$2") =~ [[:space:]](UP|UNKNOWN)[[:space:]].*LOWER_UP ]]; }

# veth_pair N [MTU]: ethN of ct, with addresses, and vN of lan.
veth_pair() {
	veth ct "eth$1" lan "v$1" "${2:-1500}"
	settled ct "eth$1"
	settled lan "v$1"
	addresses ct "eth$1" "10.5$1.0.2/24"
	addresses lan "v$1" "10.5$1.0.1/24"
	((${2:-1500} < 1280)) || {
		addresses ct "eth$1" "fd5$1::2/64"
		addresses lan "v$1" "fd5$1::1/64"
	}
}

# What an agent would do.
configure() {
	addresses vm "eth$1" "10.5$1.0.2/24"
	[[ ! -e $T/no6 ]] && addresses vm "eth$1" "fd5$1::2/64"
	return 0
}

serves() {
	serve_in lan 7000
	PIDS+=" $SERVER"
	serve_in vm 7001
	PIDS+=" $SERVER"
}

# reach NS ADDRESS [OPTION...]: it answers; who carries the question may stand still for longer than a neighbour is looked for.
reach() { wait_until in_ns "$1" busybox ping -c 1 -W 5 "${@:3}" "$2"; }

send() { timeout $((WAIT_S * 2)) nsenter --net="$T/ns/$1" "$NETTEST" "${@:2}"; }

# Pings, TCP and UDP from lan to vm and back, by link N.
traffic() {
	reach vm "10.5$1.0.1"
	reach vm "fd5$1::1"
	reach lan "10.5$1.0.2"
	reach lan "fd5$1::2"
	for family in "10.5$1.0." "fd5$1::"; do
		send vm traffic "${family}1" 7000 3000000
		send lan traffic "${family}2" 7001 3000000
	done
}

# Not a bridge's clocks; the kernel makes the state of a link that is up from UNKNOWN to UP some time later.
ct_things() { netns_things ct | sed -E 's/(gc|forward_delay)_timer +[0-9.]+//; s/ state UNKNOWN / state UP /'; }

# Some of what there is the kernel itself finds out later.
unchanged() { wait_until is_unchanged "$1" 2>/dev/null || diff <(echo "$1") <(ct_things); }
is_unchanged() { [[ $1 == "$(ct_things)" ]]; }

kind_or_skip() {
	in_ns ct ip link add probe0 type "$@" || skip "this kernel has no $1"
	in_ns ct ip link del probe0
}

# ---- ways and kinds

@test "tc: everything crosses a wired veth both ways, and nothing is left" {
	veth_pair 0
	local before
	before=$(ct_things)
	guest eth0
	configure 0
	serves
	is $'61440\t62463' "$(in_ns ct cat /proc/sys/net/ipv4/ip_local_port_range)"
	traffic 0
	end_guest
	unchanged "$before"
}

@test "bridge: everything crosses a wired veth both ways, and nothing is left" {
	veth_pair 0
	local before mac
	before=$(ct_things)
	mac=$(mac_of ct eth0)
	guest --wiring bridge eth0
	is "ready $mac" "$(cat "$T/guest-eth0")"
	configure 0
	serves
	traffic 0
	is yes "$(tell hidden)"
	# The stack neither answers nor asks in the guest's place.
	is "lladdr $mac" "$(in_ns lan ip neigh show 10.50.0.2 | grep -o 'lladdr [^ ]*')"
	in_ns ct ip neigh flush all
	run ! in_ns ct busybox ping -c 1 -W 1 10.50.0.1
	is "lladdr $mac" "$(in_ns lan ip neigh show 10.50.0.2 | grep -o 'lladdr [^ ]*')"
	traffic 0
	end_guest
	unchanged "$before"
}

@test "large TCP segments and checksums that are left to do cross in both ways" {
	local way
	veth_pair 0
	serves
	for way in tc bridge; do
		guest --wiring $way --offload eth0
		configure 0
		traffic 0
		crosses_in_large_packets vm 10.50.0.1 7000 lan v0
		crosses_in_large_packets lan fd50::2 7001 vm eth0
		end_guest
	done
}

# crosses_in_large_packets FROM ADDRESS PORT TO LINK: they are of 5,000 bytes at least, where one of the wire has 1,500. TCP makes
# them smaller when answers take long: on a busy machine, one of these times.
crosses_in_large_packets() {
	local bytes=30000000 packets
	for _ in 1 2 3 4 5; do
		packets=$(packets "$4" "$5" rx)
		send "$1" tcp "$2" "$3" $bytes
		packets=$(($(packets "$4" "$5" rx) - packets))
		((bytes / packets <= 5000)) || return 0
		echo "from $1 to $4: $packets packets"
	done
	return 1
}

@test "a TAP has as many queues as it shall" {
	veth_pair 0
	guest --queues 4 eth0
	is 4 "$(in_ns ct ip -d -j link show type tun | jq '.[].linkinfo.info_data.numqueues')"
	configure 0
	serves
	traffic 0
	end_guest
}

@test "links of any MTU: a packet of that size crosses, and the TAP follows" {
	local mtu
	for mtu in 68 576 1280 1500 9000 65535; do
		rm -f "$T/no6"
		((mtu >= 1280)) || touch "$T/no6"
		veth_pair 0 $mtu
		guest eth0
		configure 0
		# The card has no room for more, nor has the TAP.
		reach vm 10.50.0.1 -s $(((mtu < 65521 ? mtu : 65507) - 28))
		reach lan 10.50.0.2 -s $(((mtu < 65521 ? mtu : 65507) - 28))
		in_ns ct ip link set eth0 mtu 1400
		is ok "$(tell mtu)"
		is 1400 "$(in_ns ct ip -j link show type tun | jq '.[].mtu')"
		end_guest
		in_ns ct ip link del eth0
	done
}

# lower N KIND ARG...: ethN of ct is such a link on a veth whose other end is vN of lan.
lower() {
	[[ -e $T/ns/up ]] || make_netns up
	veth up "w$1" lan "v$1"
	in_ns up ip link add link "w$1" name "eth$1" netns "$T/ns/ct" type "${@:2}"
	in_ns ct ip link set "eth$1" up
	settled up "w$1"
	settled lan "v$1"
	settled ct "eth$1"
	addresses ct "eth$1" "10.5$1.0.2/24" "fd5$1::2/64"
	addresses lan "v$1" "10.5$1.0.1/24" "fd5$1::1/64"
}

@test "macvlan: everything crosses, also for groups that the namespace has not joined" {
	lower 0 macvlan mode bridge
	local before
	before=$(ct_things)
	guest eth0
	configure 0
	serves
	traffic 0
	hears 239.1.2.3 eth0
	end_guest
	unchanged "$before"
	run guest --wiring bridge eth0
	[[ $status != 0 && $output == *"link eth0: a bridge cannot wire this link: it takes frames for its own address alone"* ]]
	unchanged "$before"
}

# hears GROUP LINK: a program of the guest that joins it gets what lan sends.
hears() {
	local out=$T/heard-$1
	nsenter --net="$T/ns/vm" "$NETTEST" join "$1" "$2" 7002 >"$out" 2>&1 3>&- &
	local pid=$!
	PIDS+=" $pid"
	wait_until grep -q ready "$out"
	wait_until is_heard "$1" "$out"
	wait_until gone "$pid"
}
# What is sent before the news that somebody joined has come through may be nobody's.
is_heard() {
	send lan cast "$1" v0 7002 hello
	read -rt 0.1 -u "$TICK" || :
	grep -q hello "$2"
}

@test "multicast comes to a guest that has joined, by tc and by bridge" {
	veth_pair 0
	local way
	for way in tc bridge; do
		guest --wiring $way eth0
		configure 0
		hears 239.1.2.3 eth0
		hears ff15::1234 eth0
		end_guest
	done
}

@test "ipvlan in modes l2 and l3: everything crosses; l3s is refused" {
	local mode before
	in_ns ct ip link add name probe type veth peer name probe1
	in_ns ct ip link add link probe name probe2 type ipvlan mode l2 || skip "this kernel has no ipvlan"
	in_ns ct ip link del probe
	serves
	for mode in l2 l3; do
		lower 0 ipvlan mode $mode
		before=$(ct_things)
		guest eth0
		configure 0
		if [[ $mode == l3 ]]; then
			# A link without ARP is one in the guest, too; the link below it is its router.
			in_ns vm ip link set eth0 arp off
			addresses up w0 10.50.0.3/24 fd50::3/64
			in_ns lan ip route add 10.50.0.2 via 10.50.0.3
			in_ns lan ip route add fd50::2 via fd50::3
		fi
		traffic 0
		end_guest
		unchanged "$before"
		in_ns ct ip link del eth0
		in_ns lan ip link del v0
	done
	lower 1 ipvlan mode l3s
	run guest eth1
	[[ $status != 0 && $output == *"link eth1: an ipvlan in mode l3s has no frames"* ]]
}

@test "a bridge itself: what is for its address is the guest's" {
	veth ct p0 lan v0
	in_ns ct ip link add eth0 type bridge
	in_ns ct ip link set p0 master eth0
	in_ns ct ip link set eth0 up
	settled ct p0 eth0
	addresses ct eth0 10.50.0.2/24 fd50::2/64
	addresses lan v0 10.50.0.1/24 fd50::1/64
	local before
	before=$(ct_things)
	guest eth0
	configure 0
	serves
	traffic 0
	end_guest
	unchanged "$before"
	run guest --wiring bridge eth0
	[[ $status != 0 && $output == *"a bridge is no port of another one"* ]]
}

@test "dummy: is wired, and takes what the guest sends" {
	kind_or_skip dummy
	in_ns ct ip link add eth0 type dummy
	in_ns ct ip link set eth0 up
	addresses ct eth0 10.50.0.2/24
	local sent
	for way in tc bridge; do
		guest --wiring $way eth0
		configure 0
		sent=$(packets ct eth0 tx)
		run ! in_ns vm busybox ping -c 1 -W 1 10.50.0.1
		wait_until more_packets ct eth0 tx "$sent"
		end_guest
	done
}

@test "tap: what another program's TAP brings crosses" {
	make_netns far
	# Its other end is a program, too: one more guest.
	in_ns lan ip link add v0 type veth peer name eth9
	in_ns lan ip link set eth9 up
	in_ns lan ip link set v0 up
	guest eth9 lan ct
	local far=$TELL far_guest=$GUEST
	in_ns ct ip link set eth9 down
	in_ns ct ip link set eth9 name eth0
	in_ns ct ip link set eth0 up
	addresses ct eth0 10.50.0.2/24 fd50::2/64
	addresses lan v0 10.50.0.1/24 fd50::1/64
	guest eth0
	configure 0
	serves
	traffic 0
	end_guest
	end_guest "$far" "$far_guest"
}

# frames HEX...: whether frames that begin so, and are sent at lan's v0 or vm's eth0, are seen at the other.
frames() {
	python3 - "$T/ns/lan" v0 "$T/ns/vm" eth0 "$@" <<'PY'
import ctypes, os, socket, sys

def there(path, link):
    fd = os.open(path, os.O_RDONLY)
    assert ctypes.CDLL(None, use_errno=True).setns(fd, 0) == 0
    s = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3))
    s.bind((link, 3))
    s.settimeout(60)
    return s

def crosses(out, into, data):
    out.send(data)
    while data[-64:] not in into.recv(65536):
        pass

lan, vm = there(*sys.argv[1:3]), there(*sys.argv[3:5])
for text in sys.argv[5:]:
    print(text)
    crosses(lan, vm, bytes.fromhex(text) + os.urandom(64))
    crosses(vm, lan, bytes.fromhex(text) + os.urandom(64))
PY
}

@test "frames of any protocol cross: tagged ones, IP with options, unknown ones, link-local groups" {
	veth_pair 0
	local way all=ffffffffffff020000000009
	for way in tc bridge; do
		guest --wiring $way eth0
		frames ${all}{810000640800,88a800c8810000640800,88b5,0032aaaa03} \
			${all}08004600005800004000ff11642c0a3200010a32000201010101 \
			${all}86dd6000000000403b40fd500000000000000000000000000001fd500000000000000000000000000002 \
			0180c200000e02000000000988cc
		end_guest
	done
}

@test "a VLAN on a wired link is a link of its own, whichever came first: its tagged frames stay in the namespace" {
	local when first first_guest
	veth_pair 0
	serves
	for when in before after; do
		[[ $when == before ]] || guest eth0
		first=$TELL first_guest=$GUEST
		in_ns ct ip link add link eth0 name eth1 type vlan id 5 || skip "this kernel has no VLANs"
		in_ns lan ip link add link v0 name v1 type vlan id 5
		in_ns ct ip link set eth1 up
		in_ns lan ip link set v1 up
		addresses ct eth1 10.51.0.2/24 fd51::2/64
		addresses lan v1 10.51.0.1/24 fd51::1/64
		[[ $when == after ]] || guest eth0
		[[ $when == after ]] || first=$TELL first_guest=$GUEST
		configure 0
		guest eth1
		configure 1
		traffic 0
		traffic 1
		end_guest
		end_guest "$first" "$first_guest"
		in_ns ct ip link del eth1
		in_ns lan ip link del v1
	done
}

# Modules can be withheld where the machine is the test's.
@test "a kernel without a part of tc: a bridge takes its place, or the part is named" {
	[[ ${HUSK_NESTED:-} ]] || skip "not where others use this kernel"
	local part module=/proc/sys/kernel/modprobe
	kind_or_skip bridge
	veth_pair 0
	serves
	for part in sch_ingress cls_u32 act_mirred; do
		guest --wiring tc eth0 # loads them
		end_guest
		busybox rmmod $part || skip "this kernel has $part built in"
		echo /bin/false >$module
		guest --wiring auto eth0
		cp "$T/guest-eth0" "$T/first"
		configure 0
		traffic 0
		end_guest
		run guest --wiring tc eth0
		echo /sbin/modprobe >$module
		[[ $status != 0 && $output == *"wire link eth0: this kernel has no "* ]]
		grep -q "link eth0: this kernel has no .*: a bridge takes its place" "$T/first"
	done
}

@test "bridge: an Ethernet address that somebody gives the link meanwhile stays" {
	veth_pair 0
	guest --wiring bridge eth0
	in_ns ct ip link set eth0 address 02:11:22:33:44:66
	is no "$(tell hidden)"
	is ok "$(tell unwire)"
	is 02:11:22:33:44:66 "$(mac_of ct eth0)"
	end_guest
}

# ---- the namespace's own sockets

@test "sockets of the namespace get their answers while a guest has its address" {
	veth_pair 0
	guest eth0
	configure 0
	serves
	local to
	for to in 10.50.0.1 fd50::1; do
		send ct tcp $to 7000 3000000
		send ct udp $to 7000 1000
		send vm tcp $to 7000 3000000
		# A port that nobody has says so at once.
		run ! timeout $((WAIT_S * 2)) nsenter --net="$T/ns/ct" python3 -c 'import socket, sys
s = socket.socket(socket.AF_INET6 if ":" in sys.argv[1] else socket.AF_INET, socket.SOCK_DGRAM)
s.settimeout(30)
s.connect((sys.argv[1], 9)); s.send(b"x"); s.recv(1)' $to
		[[ $output == *ConnectionRefusedError* ]]
	done
	end_guest
	send ct tcp 10.50.0.1 7000 1000
}

# awaits_lease NS ADDRESS PORT FILE: FILE has "open", and then what came to the port.
awaits_lease() {
	nsenter --net="$T/ns/$1" python3 -uc 'import socket, sys
s = socket.socket(socket.AF_INET6 if ":" in sys.argv[1] else socket.AF_INET, socket.SOCK_DGRAM)
s.bind((sys.argv[1], int(sys.argv[2])))
print("open")
print(s.recv(100).decode())' "$2" "$3" >"$4" 3>&- &
	PIDS+=" $!"
	wait_until grep -q open "$4"
}

# lease ADDRESS PORT FROM-PORT: lan sends one, and both have it. (It is lost when the address is not found in time.)
lease() {
	in_ns lan python3 -c 'import socket, sys
s = socket.socket(socket.AF_INET6 if ":" in sys.argv[1] else socket.AF_INET, socket.SOCK_DGRAM)
s.bind(("", int(sys.argv[3])))
s.sendto(b"lease", (sys.argv[1], int(sys.argv[2])))' "$@"
	read -rt 0.2 -u "$TICK" || :
	grep -q lease "$T/ct-$2" && grep -q lease "$T/vm-$2"
}

@test "a DHCP server's answers come to the guest and to who holds the namespace's lease" {
	veth_pair 0
	guest eth0
	configure 0
	local ns to ip client from
	for to in 10.50.0.2,68,67 fd50::2,546,547; do
		IFS=, read -r ip client from <<<"$to"
		for ns in ct vm; do awaits_lease $ns "$ip" "$client" "$T/$ns-$client"; done
		wait_until lease "$ip" "$client" "$from"
	done
	end_guest
}

@test "neighbours are found by the guest and by the namespace" {
	veth_pair 0
	guest eth0
	configure 0
	local ns to mac
	mac=$(mac_of lan v0)
	for ns in ct vm; do
		in_ns $ns ip neigh flush dev eth0
		for to in 10.50.0.1 fd50::1; do
			wait_until neighbour $ns $to "$mac"
		done
	done
	reach vm 10.50.0.1
	reach vm fd50::1
	end_guest
}

# neighbour NS ADDRESS MAC: it is looked for, and found. (Answers to the namespace's ping go to the guest.)
neighbour() {
	in_ns "$1" busybox ping -c 1 -W 1 "$2" || :
	[[ $(in_ns "$1" ip neigh show "$2" dev eth0 | grep -o 'lladdr [^ ]*') == "lladdr $3" ]]
}

@test "the range of local ports comes back when the last link is unwired" {
	veth_pair 0
	veth_pair 1
	in_ns ct sysctl -qw net.ipv4.ip_local_port_range='20000 30000'
	guest eth0
	local first=$TELL first_guest=$GUEST
	guest eth1
	end_guest "$first" "$first_guest"
	is $'61440\t62463' "$(in_ns ct cat /proc/sys/net/ipv4/ip_local_port_range)"
	end_guest
	is $'20000\t30000' "$(in_ns ct cat /proc/sys/net/ipv4/ip_local_port_range)"
}

# ---- what others have there

@test "an ingress or clsact qdisc that is there is used and stays, with its filters" {
	local kind before
	veth_pair 0
	serves
	for kind in ingress clsact; do
		in_ns ct tc qdisc add dev eth0 $kind
		in_ns ct tc filter add dev eth0 parent ffff:fff2 prio 5 protocol 0x88b5 u32 match u32 0 0
		in_ns ct tc filter add dev eth0 parent ffff:fff2 protocol 0x88b6 u32 match u32 0 0
		before=$(ct_things)
		guest eth0
		configure 0
		traffic 0
		end_guest
		unchanged "$before"
		in_ns ct tc qdisc del dev eth0 $kind
	done
}

@test "our ingress qdisc stays when somebody's filter came to it, and its filter with it" {
	veth_pair 0
	guest eth0
	in_ns ct tc filter add dev eth0 parent ffff: prio 7 protocol 0x88b5 u32 match u32 0 0
	end_guest
	is "pref 7" "$(in_ns ct tc filter show dev eth0 parent ffff: | grep -o 'pref [0-9]*' | sort -u)"
	is $'32768\t60999' "$(in_ns ct cat /proc/sys/net/ipv4/ip_local_port_range)"
}

@test "a link that has a TAP is not given another one: its owner is named" {
	veth_pair 0
	guest --owner first eth0
	configure 0
	serves
	cp "$T/guest-eth0" "$T/first"
	run "$WIRE_GUEST" --owner second "$T/ns/ct" eth0 - </dev/null
	[[ $status != 0 && $output =~ "error husk-tap"[0-9]+" is there already: container first" ]]
	run "$WIRE_GUEST" --queues 2 --owner second "$T/ns/ct" eth0 - </dev/null
	[[ $status != 0 && $output == *"container first" ]]
	traffic 0
	end_guest
}

# ---- ends

@test "what a killed guest left is replaced by the next one, or taken away" {
	local way before
	veth_pair 0
	in_ns ct sysctl -qw net.ipv4.ip_local_port_range='20000 30000'
	serves
	before=$(ct_things)
	for way in tc bridge; do
		guest --wiring $way eth0
		kill_guest
		[[ $(ct_things) != "$before" ]]
		guest eth0
		configure 0
		traffic 0
		end_guest
		unchanged "$before"

		guest --wiring $way eth0
		kill_guest
		"$WIRE_GUEST" dead "$T/ns/ct"
		unchanged "$before"
		"$WIRE_GUEST" dead "$T/ns/ct"
		"$WIRE_GUEST" unwire "$T/ns/ct" eth0
		unchanged "$before"
	done
}

@test "the wiring of a guest that lives is not taken for a dead one's" {
	local way
	veth_pair 0
	serves
	for way in tc bridge; do
		guest --wiring $way eth0
		configure 0
		is ok "$(tell dead)"
		traffic 0
		end_guest
	done
}

@test "a link that is deleted takes its wiring along; unwiring is no error then" {
	local way
	for way in tc bridge; do
		veth_pair 0
		guest --wiring $way eth0
		in_ns ct ip link del eth0
		is ok "$(tell unwire)"
		is ok "$(tell dead)"
		end_guest
		is 0 "$(in_ns ct ip -br link | grep -c husk-)"
		is $'32768\t60999' "$(in_ns ct cat /proc/sys/net/ipv4/ip_local_port_range)"
	done
	# The last of all, and killed besides.
	for way in tc bridge; do
		veth_pair 0
		guest --wiring $way eth0
		in_ns ct ip link del eth0
		kill_guest
		"$WIRE_GUEST" dead "$T/ns/ct"
		is 0 "$(in_ns ct ip -br link | grep -c husk-)"
		is $'32768\t60999' "$(in_ns ct cat /proc/sys/net/ipv4/ip_local_port_range)"
	done
}

@test "a link that goes down and up is wired as before" {
	veth_pair 0
	serves
	local way
	for way in tc bridge; do
		guest --wiring $way eth0
		configure 0
		in_ns ct ip link set eth0 down
		in_ns ct ip link set eth0 up
		wait_until in_ns vm busybox ping -c 1 -W 1 10.50.0.1
		in_ns ct sh -c 'ip address replace fd50::2/64 dev eth0'
		traffic 0
		end_guest
	done
}

@test "wired and unwired again and again, nothing gathers" {
	local way before
	veth_pair 0
	before=$(ct_things)
	for way in "tc 100" "bridge 20"; do
		guest --wiring "${way% *}" eth0
		is ok "$(tell "rounds ${way#* }")"
		end_guest
		unchanged "$before"
	done
	is 0 "$(in_ns ct tc actions ls action mirred 2>/dev/null | grep -c mirred)"
}
