/* What oci_spec_validate() and oci_spec_supported() let pass, and what they say when they do not.
 * A case is a small correct config.json with one edit. */
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "lib/cleanup.h"
#include "oci/default_spec.h"
#include "oci/unsupported.h"
#include "oci/validate.h"
#include "tests/unit/oci_text.h"

/* @...@ are places to put more at. */
static const char base[] =
	"{'ociVersion':'1.2.0','hostname':'h',@top@"
	"'process':{@process@'args':['sh'],'cwd':'/','env':['A=1']},"
	"'root':{'path':'rootfs'},"
	"'mounts':[{@mount@'destination':'/proc','type':'proc','source':'proc'}],"
	"'linux':{@linux@'namespaces':[{@ns@'type':'network'},{'type':'uts'},{'type':'mount'},"
	"{'type':'pid'}]}}";

static const char *const places[] = {"@top@", "@process@", "@mount@", "@linux@", "@ns@"};

struct edit {
	const char *from; /* a place, or text of the base */
	const char *to;
	const char *message; /* NULL: accepted */
};

/* The base with one edit, and the other places empty. */
static char *made(const struct edit *e)
{
	char *text = edited(base, e->from, e->to), *next;

	if (!text) {
		fail_msg("not in the base: %s", e->from);
		return NULL; /* fail_msg() does not come back, which not every tool knows */
	}
	for (size_t i = 0; i < ARRAY_LEN(places); i++) {
		next = edited(text, places[i], "");
		if (!next)
			continue;
		free(text);
		text = next;
	}
	next = quoted(text);
	free(text);
	return next;
}

typedef int check_fn(const struct oci_spec *spec, struct error *err);

static void try_edit(const struct edit *e, check_fn *check, enum error_kind kind)
{
	cleanup_free char *text = made(e);
	cleanup_free char *wanted = e->message ? quoted(e->message) : NULL;
	cleanup_oci_spec struct oci_spec *s = NULL;
	struct error err = ERROR_INIT;

	if (oci_spec_parse(text, strlen(text), &s, &err) < 0)
		fail_msg("does not parse: %s: %s", text, err.msg);
	if (check(s, &err) == 0) {
		if (wanted)
			fail_msg("accepted: %s", text);
		return;
	}
	if (!wanted)
		fail_msg("refused: %s: %s", text, err.msg);
	assert_string_equal(err.msg, wanted);
	assert_int_equal(err.kind, kind);
}

#define VALIDATE(...)                                                        \
	do {                                                                 \
		static const struct edit edits[] = {__VA_ARGS__};            \
                                                                             \
		(void)state;                                                 \
		for (size_t i = 0; i < ARRAY_LEN(edits); i++)                \
			try_edit(&edits[i], oci_spec_validate, ERR_INVALID); \
	} while (0)

#define SUPPORTED(...)                                                            \
	do {                                                                      \
		static const struct edit edits[] = {__VA_ARGS__};                 \
                                                                                  \
		(void)state;                                                      \
		for (size_t i = 0; i < ARRAY_LEN(edits); i++)                     \
			try_edit(&edits[i], oci_spec_supported, ERR_UNSUPPORTED); \
	} while (0)

/* ---- validate */

static void the_base_is_accepted(void **state)
{
	VALIDATE({"@top@", "", NULL});
	SUPPORTED({"@top@", "", NULL});
}

static void versions(void **state)
{
	static const char *const good[] = {"1.0.0",	   "1.0.0-rc5", "1.0.2-dev", "1.1.0+dev",
					   "1.2.0-rc.1+b", "1.99.3",	"1.3.0"};
	static const char *const bad[] = {"",	      "1",	"1.0",	  "1.0.",    "1.0.x",
					  "2.0.0",    "0.9.0",	"11.0.0", "1.0.0-",  "1.0.0+",
					  "1.0.0 ",   "v1.0.0", "1.01.0", "1.0.0-.", "1.0.0-a..b",
					  "1.0.0-a+", "1.0.0.0"};

	VALIDATE({"1.2.0", "9.9", "ociVersion: '9.9': unsupported version"},
		 {"1.2.0", "", "ociVersion: property must not be empty"});
	for (size_t i = 0; i < ARRAY_LEN(good); i++)
		if (!oci_version_supported(good[i]))
			fail_msg("refused: %s", good[i]);
	for (size_t i = 0; i < ARRAY_LEN(bad); i++)
		if (oci_version_supported(bad[i]))
			fail_msg("accepted: %s", bad[i]);
}

static void needed_objects(void **state)
{
	VALIDATE({"'process'", "'p'", "process: property must not be empty"},
		 {"'root'", "'r'", "root: property must not be empty"},
		 {"'path':'rootfs'", "", "root.path: property must not be empty"},
		 {"'linux'", "'l'", "linux: property must not be empty"});
}

static void process(void **state)
{
	VALIDATE({"'cwd':'/'", "'cwd':''", "process.cwd: property must not be empty"},
		 {"'cwd':'/'", "'cwd':'tmp'", "process.cwd: 'tmp' must be an absolute path"},
		 {"['sh']", "[]", "process.args: must not be empty"},
		 {"['sh']", "['']", "process.args[0]: must not be empty"},
		 {"['sh']", "['sh','']", NULL},
		 {"'A=1'", "'A=1','B'", "process.env[1]: invalid environment variable: 'B'"},
		 {"'A=1'", "'=1'",
		  "process.env[0]: environment variable name can't be empty: '=1'"},
		 {"'A=1'", "'A='", NULL},
		 {"@process@", "'execCPUAffinity':{'initial':'0-3,7, 9'},", NULL},
		 {"@process@", "'execCPUAffinity':{'initial':'a'},",
		  "process.execCPUAffinity.initial: 'a': not a list of CPUs"},
		 {"@process@", "'execCPUAffinity':{'final':'1-'},",
		  "process.execCPUAffinity.final: '1-': not a list of CPUs"});
}

static void rlimits(void **state)
{
	VALIDATE({"@process@", "'rlimits':[{'type':'RLIMIT_NOFILE','soft':2,'hard':1}],",
		  "process.rlimits[0]: RLIMIT_NOFILE: soft limit 2 is above hard limit 1"},
		 {"@process@",
		  "'rlimits':[{'type':'RLIMIT_CPU','soft':1,'hard':1},{'type':'RLIMIT_CPU',"
		  "'soft':1,'hard':1}],",
		  "process.rlimits[1].type: 'RLIMIT_CPU' is given twice"},
		 {"@process@",
		  "'rlimits':[{'type':'RLIMIT_CPU','soft':1,'hard':1},{'type':'RLIMIT_AS',"
		  "'soft':1,'hard':18446744073709551615}],",
		  NULL});
}

static void scheduler(void **state)
{
	VALIDATE({"@process@", "'scheduler':{'policy':'SCHED_OTHER','nice':-21},",
		  "process.scheduler.nice: -21 is out of range (-20 to 19)"},
		 {"@process@", "'scheduler':{'policy':'SCHED_BATCH','priority':1},",
		  "process.scheduler.priority: can only be specified for SCHED_FIFO or SCHED_RR"},
		 {"@process@", "'scheduler':{'policy':'SCHED_RR','priority':100},",
		  "process.scheduler.priority: 100 is out of range (0 to 99)"},
		 {"@process@", "'scheduler':{'policy':'SCHED_RR','period':5},",
		  "process.scheduler: runtime, deadline and period can only be specified for "
		  "SCHED_DEADLINE"},
		 {"@process@", "'scheduler':{'policy':'SCHED_FIFO','priority':10},", NULL},
		 {"@process@", "'scheduler':{'policy':'SCHED_DEADLINE','period':5},", NULL});
}

static void namespaces(void **state)
{
	VALIDATE({"{'type':'pid'}", "{'type':'uts'}",
		  "linux.namespaces[3]: duplicate 'uts' namespace"},
		 {"@ns@", "'path':'run/n',",
		  "linux.namespaces[0].path: 'run/n' must be an absolute path"},
		 {"@ns@", "'path':'/run/n',", NULL},
		 {"{'type':'uts'},", "",
		  "hostname: unable to set hostname without a private UTS namespace"},
		 {"@linux@", "'timeOffsets':{'boottime':{'secs':1}},",
		  "linux.timeOffsets: time namespace offsets specified, but time namespace isn't "
		  "enabled in the config"});
}

static void host_names(void **state)
{
	VALIDATE({"'h'", "'a123456789b123456789c123456789d123456789e123456789f123456789abcd'",
		  NULL},
		 {"'h'", "'a123456789b123456789c123456789d123456789e123456789f123456789abcde'",
		  "hostname: longer than 64 bytes"},
		 {"@top@",
		  "'domainname':"
		  "'a123456789b123456789c123456789d123456789e123456789f123456789abcde',",
		  "domainname: longer than 64 bytes"});
}

static void domainname_needs_uts(void **state)
{
	static const char json[] =
		"{'ociVersion':'1.0.0','domainname':'d','process':{'args':['a'],'cwd':'/'},"
		"'root':{'path':'r'},'linux':{}}";
	cleanup_free char *text = quoted(json);
	cleanup_oci_spec struct oci_spec *s = NULL;
	struct error err = ERROR_INIT;

	(void)state;
	assert_int_equal(oci_spec_parse(text, strlen(text), &s, &err), 0);
	assert_int_equal(oci_spec_validate(s, &err), -1);
	assert_string_equal(err.msg, "domainname: unable to set domainname without a private UTS "
				     "namespace");
}

#define MAP(c, h, n) "[{'containerID':" #c ",'hostID':" #h ",'size':" #n "}]"

static void user_namespace(void **state)
{
	VALIDATE({"@linux@", "'uidMappings':" MAP(0, 1, 1) ",",
		  "linux.uidMappings: user namespace mappings specified, but user namespace isn't "
		  "enabled in the config"},
		 {"@linux@", "'gidMappings':" MAP(0, 1, 1) ",",
		  "linux.gidMappings: user namespace mappings specified, but user namespace isn't "
		  "enabled in the config"},
		 {"'pid'", "'user'",
		  "linux.uidMappings: user namespaces enabled, but no mappings found"},
		 {"{'type':'pid'}]", "{'type':'user'}],'uidMappings':" MAP(0, 1, 1),
		  "linux.gidMappings: user namespaces enabled, but no mappings found"},
		 {"{'type':'pid'}]", "{'type':'user','path':'/run/u'}]", NULL},
		 {"{'type':'pid'}]",
		  "{'type':'user'}],'uidMappings':" MAP(0, 1, 1) ",'gidMappings':" MAP(0, 1, 0),
		  "linux.gidMappings[0].size: must not be zero"},
		 {"{'type':'pid'}]",
		  "{'type':'user'}],'uidMappings':" MAP(1, 0, 4294967295) ",'gidMappings':" MAP(
			  1, 1, 4294967295),
		  NULL},
		 {"{'type':'pid'}]",
		  "{'type':'user'}],'uidMappings':" MAP(2, 0,
							4294967295) ",'gidMappings':" MAP(0, 1, 1),
		  "linux.uidMappings[0]: reaches beyond the last id"},
		 {"@mount@", "'uidMappings':" MAP(0, 1, 0) ",",
		  "mounts[0].uidMappings[0].size: must not be zero"});
}

static void paths(void **state)
{
	VALIDATE({"@linux@", "'maskedPaths':['/a','b'],",
		  "linux.maskedPaths[1]: 'b' must be an absolute path"},
		 {"@linux@", "'readonlyPaths':['../b'],",
		  "linux.readonlyPaths[0]: '../b' must be an absolute path"},
		 {"@linux@", "'devices':[{'path':'dev/x','type':'p'}],",
		  "linux.devices[0].path: 'dev/x' must be an absolute path"},
		 {"@top@", "'hooks':{'prestart':[{'path':'a'}]},",
		  "hooks.prestart[0].path: 'a' must be an absolute path"},
		 {"@top@", "'hooks':{'startContainer':[{'path':'/a'},{'path':'a'}]},",
		  "hooks.startContainer[1].path: 'a' must be an absolute path"},
		 {"'/proc'", "'proc'", NULL},
		 {"{'type':'mount'},{'type':'pid'}]", "{'type':'pid'}],'maskedPaths':['/a']",
		  "linux.maskedPaths: unable to restrict sys entries without a private MNT "
		  "namespace"},
		 {"@top@", "'annotations':{'':'x'},", "annotations: a key must not be empty"});
}

static void sysctl(void **state)
{
	VALIDATE({"@linux@", "'sysctl':{'net.ipv4.ip_forward':'1','kernel/domainname':'d'},", NULL},
		 {"@linux@", "'sysctl':{'kernel.hostname':'x'},",
		  "linux.sysctl: sysctl 'kernel.hostname' is not allowed as it conflicts with the "
		  "OCI 'hostname' field"},
		 {"@linux@", "'sysctl':{'kernel/hostname':'x'},",
		  "linux.sysctl: sysctl 'kernel/hostname' is not allowed as it conflicts with the "
		  "OCI 'hostname' field"},
		 {"@linux@", "'sysctl':{'net/../x':'1'},",
		  "linux.sysctl['net/../x']: not a sysctl"});
}

static void sysctl_paths(void **state)
{
	static const char *const cases[][2] = {
		{"net.ipv4.ip_forward", "net/ipv4/ip_forward"},
		{"net/ipv4/conf/eth0.1/forwarding", "net/ipv4/conf/eth0.1/forwarding"},
		{"net.ipv4.conf.eth0/1.forwarding", "net/ipv4/conf/eth0.1/forwarding"},
		{"x", "x"},
		{"", NULL},
		{".", NULL},
		{"..", NULL},
		{"../etc/x", NULL},
		{"/etc/x", NULL},
		{"a..b", NULL},
		{"a/../b", NULL},
		{"a/./b", NULL},
		{"a.//.b", NULL},
		{"a.b.", NULL},
		{"a/", NULL},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		cleanup_free char *path = oci_sysctl_path(cases[i][0]);

		if (!cases[i][1])
			assert_null(path);
		else
			assert_string_equal(path, cases[i][1]);
	}
}

static void seccomp(void **state)
{
	VALIDATE({"@linux@",
		  "'seccomp':{'defaultAction':'SCMP_ACT_ALLOW','syscalls':[{'action':"
		  "'SCMP_ACT_KILL'}]},",
		  "linux.seccomp.syscalls[0].names: must not be empty"},
		 {"@linux@",
		  "'seccomp':{'defaultAction':'SCMP_ACT_ALLOW','syscalls':[{'names':['a',''],"
		  "'action':'SCMP_ACT_KILL'}]},",
		  "linux.seccomp.syscalls[0].names[1]: must not be empty"});
}

#define RESOURCES(text) "'resources':{" text "},"

static void memory_and_cpu(void **state)
{
	VALIDATE({"@linux@", RESOURCES("'memory':{'limit':-1,'swap':-1}"), NULL},
		 {"@linux@", RESOURCES("'memory':{'limit':-2}"),
		  "linux.resources.memory.limit: -2 is neither a size nor -1"},
		 {"@linux@", RESOURCES("'memory':{'swap':5,'limit':6}"),
		  "linux.resources.memory.swap: memory+swap limit should be >= memory limit"},
		 {"@linux@", RESOURCES("'memory':{'swappiness':101}"),
		  "linux.resources.memory.swappiness: 101 is out of range (0 to 100)"},
		 {"@linux@", RESOURCES("'cpu':{'period':999}"),
		  "linux.resources.cpu.period: 999 is out of range (1000 to 1000000)"},
		 {"@linux@", RESOURCES("'cpu':{'period':0,'quota':0,'shares':0}"), NULL},
		 {"@linux@", RESOURCES("'cpu':{'quota':999}"),
		  "linux.resources.cpu.quota: 999 is below 1000"},
		 {"@linux@", RESOURCES("'cpu':{'idle':2}"),
		  "linux.resources.cpu.idle: 2 is neither 0 nor 1"},
		 {"@linux@", RESOURCES("'cpu':{'cpus':'x'}"),
		  "linux.resources.cpu.cpus: 'x': not a list of CPUs"},
		 {"@linux@", RESOURCES("'cpu':{'mems':'0,'}"),
		  "linux.resources.cpu.mems: '0,': not a list of memory nodes"});
}

static void other_resources(void **state)
{
	VALIDATE({"@linux@", RESOURCES("'blockIO':{'weight':9}"),
		  "linux.resources.blockIO.weight: 9 is out of range (10 to 1000)"},
		 {"@linux@", RESOURCES("'blockIO':{'weight':0,'leafWeight':1000}"), NULL},
		 {"@linux@", RESOURCES("'blockIO':{'leafWeight':1001}"),
		  "linux.resources.blockIO.leafWeight: 1001 is out of range (10 to 1000)"},
		 {"@linux@", RESOURCES("'devices':[{'allow':true,'major':-2}]"),
		  "linux.resources.devices[0].major: -2 is out of range"},
		 {"@linux@", RESOURCES("'devices':[{'allow':true,'minor':4294967296}]"),
		  "linux.resources.devices[0].minor: 4294967296 is out of range"},
		 {"@linux@", RESOURCES("'devices':[{'allow':true,'access':'rwx'}]"),
		  "linux.resources.devices[0].access: 'rwx': only r, w and m are known"},
		 {"@linux@", RESOURCES("'hugepageLimits':[{'pageSize':'2M','limit':1}]"),
		  "linux.resources.hugepageLimits[0].pageSize: '2M': not a page size"},
		 {"@linux@", RESOURCES("'hugepageLimits':[{'pageSize':'64KB','limit':1}]"), NULL},
		 {"@linux@", RESOURCES("'unified':{'../x.y':'1'}"),
		  "linux.resources.unified: unified resource '../x.y' must be a file name (no "
		  "slashes)"},
		 {"@linux@", RESOURCES("'unified':{'high':'1'}"),
		  "linux.resources.unified: unified resource 'high' must be in the form "
		  "CONTROLLER.PARAMETER"});
}

/* ---- refused by name */

static void refused_process(void **state)
{
	SUPPORTED({"@process@", "'apparmorProfile':'p',", NULL},
		  {"@process@", "'selinuxLabel':'l',", NULL},
		  {"@process@", "'scheduler':{'policy':'SCHED_ISO'},",
		   "process.scheduler.policy: Linux has no SCHED_ISO"},
		  {"@process@", "'execCPUAffinity':{'initial':'0'},", NULL},
		  {"@process@", "'apparmorProfile':'unconfined',", NULL},
		  {"@process@", "'apparmorProfile':'',", NULL});
}

static void refused_mounts(void **state)
{
	SUPPORTED({"'type':'proc'", "'type':'nfs'",
		   "mounts[0].type: /proc: 'nfs': the guest's kernel does not have this "
		   "filesystem"},
		  {"'type':'proc'", "'type':'overlay'",
		   "mounts[0].type: /proc: 'overlay': the guest's kernel does not have this "
		   "filesystem"},
		  {"'type':'proc',", "",
		   "mounts[0].type: /proc: a mount without a type is not supported"},
		  {"@mount@", "'uidMappings':[{'containerID':0,'hostID':1,'size':1}],",
		   "mounts[0].uidMappings: /proc: id-mapped mounts are only supported for bind "
		   "mounts and volumes"},
		  {"@mount@", "'options':['idmap'],",
		   "mounts[0].options: /proc: id-mapped mounts are only supported for bind "
		   "mounts and volumes"},
		  {"@mount@", "'options':['rshared','rslave','ro'],", NULL});
}

static void host_mounts(void **state)
{
	VALIDATE({"'type':'proc','source':'proc'", "'type':'bind'",
		  "mounts[0].source: /proc: a bind mount needs one"},
		 {"'type':'proc','source':'proc'", "'source':'','options':['rbind']",
		  "mounts[0].source: /proc: a bind mount needs one"},
		 {"'type':'proc','source':'proc'", "'type':'xfs'",
		  "mounts[0].source: /proc: a volume needs one"});
	SUPPORTED({"@mount@", "'options':['ro','rbind','rprivate'],", NULL},
		  {"@mount@", "'options':['bind','unbindable'],", NULL},
		  {"'type':'proc'", "'type':'bind'", NULL},
		  {"'type':'proc'", "'type':'ext4'", NULL},
		  {"'type':'proc'", "'type':'squashfs'", NULL},
		  {"@mount@", "'options':['rbind','rslave'],",
		   "mounts[0].options: /proc: rslave: propagation from the host cannot reach a "
		   "microVM"},
		  {"@mount@", "'options':['bind','shared'],",
		   "mounts[0].options: /proc: shared: propagation from the host cannot reach a "
		   "microVM"},
		  {"@mount@", "'options':['bind','remount','ro'],",
		   "mounts[0].options: /proc: remount: a mount that is there cannot be changed by "
		   "a mount"});
}

static void guest_filesystems(void **state)
{
	SUPPORTED({"'type':'proc'", "'type':'sysfs'", NULL},
		  {"'type':'proc'", "'type':'tmpfs'", NULL},
		  {"'type':'proc'", "'type':'devpts'", NULL},
		  {"'type':'proc'", "'type':'mqueue'", NULL},
		  {"'type':'proc'", "'type':'cgroup'", NULL},
		  {"'type':'proc'", "'type':'cgroup2'", NULL});
}

static void refused_namespaces(void **state)
{
	SUPPORTED({"{@ns@'type':'network'},", "",
		   "linux.namespaces: a network namespace is needed: a microVM cannot share the "
		   "host's network: give the container one of its own (docker, podman: another "
		   "--network than host; Kubernetes: no hostNetwork), or run it with runc"},
		  {"{'type':'pid'}", "{'type':'pid','path':'/proc/1/ns/pid'}",
		   "linux.namespaces[3].path: '/proc/1/ns/pid': a microVM cannot join a pid "
		   "namespace of the host"},
		  {"{'type':'pid'}", "{'type':'user','path':'/run/u'}",
		   "linux.namespaces[3].path: '/run/u': a microVM cannot join a user namespace of "
		   "the host"},
		  {"@ns@", "'path':'/run/netns/a',", NULL});
}

static void refused_seccomp(void **state)
{
	SUPPORTED(
		{"@linux@", "'seccomp':{'defaultAction':'SCMP_ACT_NOTIFY'},",
		 "linux.seccomp.defaultAction: SCMP_ACT_NOTIFY: a guest cannot reach a seccomp "
		 "listener on the host"},
		{"@linux@",
		 "'seccomp':{'defaultAction':'SCMP_ACT_ALLOW','syscalls':[{'names':['a'],"
		 "'action':'SCMP_ACT_NOTIFY'}]},",
		 "linux.seccomp.syscalls[0].action: SCMP_ACT_NOTIFY: a guest cannot reach a "
		 "seccomp listener on the host"},
		{"@linux@", "'seccomp':{'defaultAction':'SCMP_ACT_ALLOW','listenerPath':'/run/s'},",
		 "linux.seccomp.listenerPath: '/run/s': a guest cannot reach a seccomp listener "
		 "on the host"},
		{"@linux@", "'seccomp':{'defaultAction':'SCMP_ACT_ALLOW','listenerMetadata':'m'},",
		 "linux.seccomp.listenerMetadata: a guest cannot reach a seccomp listener on the "
		 "host"},
		{"@linux@", "'seccomp':{'defaultAction':'SCMP_ACT_LOG'},", NULL});
}

static void refused_linux(void **state)
{
	SUPPORTED({"@linux@", "'devices':[{'path':'/dev/a','type':'b','major':8,'minor':0}],",
		   NULL},
		  /* privileged: the guest's devices are meant */
		  {"@linux@",
		   "'devices':[{'path':'/dev/a','type':'b','major':8,'minor':0}],"
		   "'resources':{'devices':[{'allow':true,'access':'rwm'}]},",
		   NULL},
		  {"@linux@",
		   "'devices':[{'path':'/dev/a','type':'b','major':8,'minor':0}],"
		   "'resources':{'devices':[{'allow':true,'access':'rwm'},{'allow':false}]},",
		   NULL},
		  {"@linux@", "'netDevices':{'eth0':{}},", NULL},
		  {"@linux@", "'mountLabel':'l',", NULL}, {"@linux@", "'intelRdt':{},", NULL},
		  {"@linux@", "'memoryPolicy':{'mode':'MPOL_BIND'},", NULL},
		  {"@linux@", "'rootfsPropagation':'rshared',", NULL},
		  {"@linux@", "'personality':{'domain':'LINUX32'},", NULL},
		  {"@top@", "'vm':{},", NULL},
		  {"@top@",
		   "'vm':{'hypervisor':{'path':'/q'},'kernel':{'path':'/k','initrd':'/i',"
		   "'parameters':['a']},'hwConfig':{'vcpus':2,'memory':67108864}},",
		   NULL},
		  {"@top@", "'vm':{'hypervisor':{'path':'/q','parameters':['-s']}},",
		   "vm.hypervisor.parameters: the hypervisor's arguments are husk's alone, as its "
		   "jail depends on them"},
		  {"@top@", "'vm':{'image':{'path':'/i','format':'raw'}},",
		   "vm.image: the root file system is root.path's: mount the image there (ext4, "
		   "xfs, erofs or squashfs), and its device is the guest's"},
		  {"@top@", "'vm':{'hwConfig':{'deviceTree':'/d'}},",
		   "vm.hwConfig.deviceTree: the machine has none"},
		  {"@top@", "'vm':{'hwConfig':{'irqs':[1]}},",
		   "vm.hwConfig.irqs: devices of the host are not handed to a guest"},
		  {"@top@", "'vm':{'hwConfig':{'dtdevs':['/d']}},",
		   "vm.hwConfig.dtdevs: devices of the host are not handed to a guest"},
		  {"@top@", "'vm':{'hwConfig':{'iomems':[{'firstMFN':1,'nrMFNs':1}]}},",
		   "vm.hwConfig.iomems: devices of the host are not handed to a guest"},
		  {"@top@",
		   "'hooks':{'prestart':[{'path':'/a'}],'startContainer':[{'path':'/b'}]},", NULL});
}

#define NO_SOCKETS                                                                                 \
	"a microVM's packets come from no socket of its cgroup, so that it cannot mark them: use " \
	"tc on its network interface"

static void refused_resources(void **state)
{
	SUPPORTED({"@linux@", RESOURCES("'network':{'classID':1}"),
		   "linux.resources.network.classID: " NO_SOCKETS},
		  {"@linux@", RESOURCES("'network':{'classID':0}"), NULL},
		  {"@linux@", RESOURCES("'network':{'priorities':[{'name':'a'}]}"),
		   "linux.resources.network.priorities: " NO_SOCKETS},
		  {"@linux@", RESOURCES("'rdma':{'m':{}}"),
		   "linux.resources.rdma: a microVM has no RDMA devices"},
		  {"@linux@", RESOURCES("'unified':{'cgroup.procs':'1'}"),
		   "linux.resources.unified['cgroup.procs']: unknown resource"},
		  {"@linux@", RESOURCES("'unified':{'misc.max':'1'}"),
		   "linux.resources.unified['misc.max']: unknown resource"},
		  {"@linux@",
		   RESOURCES("'unified':{'memory.high':'1','cgroup.max.depth':'3','hugetlb.2MB.max'"
			     ":'0'}"),
		   NULL},
		  {"@linux@",
		   RESOURCES("'memory':{'limit':1},'cpu':{'shares':2},'pids':{'limit':3},'blockIO':"
			     "{'weight':10},'hugepageLimits':[{'pageSize':'2MB','limit':1}]"),
		   NULL});
}

static void refused_limits_of_cgroup_v1(void **state)
{
	SUPPORTED({"@linux@", RESOURCES("'memory':{'disableOOMKiller':true}"),
		   "linux.resources.memory.disableOOMKiller: cgroup v2 has no such limit"},
		  {"@linux@", RESOURCES("'memory':{'disableOOMKiller':false,'kernel':1}"), NULL},
		  {"@linux@", RESOURCES("'memory':{'swappiness':0}"),
		   "linux.resources.memory.swappiness: cgroup v2 has no such limit"},
		  {"@linux@", RESOURCES("'cpu':{'realtimeRuntime':5}"),
		   "linux.resources.cpu.realtimeRuntime: cgroup v2 has no such limit"},
		  {"@linux@", RESOURCES("'cpu':{'realtimePeriod':5}"),
		   "linux.resources.cpu.realtimePeriod: cgroup v2 has no such limit"},
		  {"@linux@", RESOURCES("'cpu':{'realtimePeriod':0,'realtimeRuntime':0}"), NULL},
		  {"@linux@", RESOURCES("'blockIO':{'leafWeight':10}"),
		   "linux.resources.blockIO.leafWeight: cgroup v2 has no such limit"});
}

/* ---- whole files */

static void assert_passes(const char *text, size_t len, const char *name)
{
	cleanup_oci_spec struct oci_spec *s = NULL;
	struct error err = ERROR_INIT;

	if (oci_spec_parse(text, len, &s, &err) < 0 || oci_spec_validate(s, &err) < 0 ||
	    oci_spec_supported(s, &err) < 0)
		fail_msg("%s: %s", name, err.msg);
	oci_spec_warn(s);
}

static void files_of_others_pass(void **state)
{
	static const char *const files[] = {
		"tests/fuzz/seeds/spec/runc-spec.json",
		"tests/fuzz/seeds/spec/crun-spec.json",
		"tests/fuzz/seeds/spec/docker-like.json",
		"tests/fuzz/seeds/spec/ctr-spec.json",
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(files); i++) {
		cleanup_free char *text = NULL;
		cleanup_oci_spec struct oci_spec *s = NULL;
		struct error err = ERROR_INIT;
		size_t len;

		if (file_read(AT_FDCWD, files[i], OCI_SPEC_MAX, &text, &len, &err) < 0)
			fail_msg("%s", err.msg);
		if (!strstr(files[i], "ctr")) {
			assert_passes(text, len, files[i]);
			continue;
		}
		/* `ctr oci spec` leaves the arguments to the image. */
		assert_int_equal(oci_spec_parse(text, len, &s, &err), 0);
		assert_int_equal(oci_spec_validate(s, &err), -1);
		assert_string_equal(err.msg, "process.args: must not be empty");
		assert_int_equal(oci_spec_supported(s, &err), 0);
	}
}

static void the_default_spec_passes(void **state)
{
	(void)state;
	assert_passes(oci_default_spec, oci_default_spec_len, "the default spec");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(the_base_is_accepted),
		cmocka_unit_test(versions),
		cmocka_unit_test(needed_objects),
		cmocka_unit_test(process),
		cmocka_unit_test(rlimits),
		cmocka_unit_test(scheduler),
		cmocka_unit_test(namespaces),
		cmocka_unit_test(host_names),
		cmocka_unit_test(domainname_needs_uts),
		cmocka_unit_test(user_namespace),
		cmocka_unit_test(paths),
		cmocka_unit_test(sysctl),
		cmocka_unit_test(sysctl_paths),
		cmocka_unit_test(seccomp),
		cmocka_unit_test(memory_and_cpu),
		cmocka_unit_test(other_resources),
		cmocka_unit_test(refused_process),
		cmocka_unit_test(refused_mounts),
		cmocka_unit_test(host_mounts),
		cmocka_unit_test(guest_filesystems),
		cmocka_unit_test(refused_namespaces),
		cmocka_unit_test(refused_seccomp),
		cmocka_unit_test(refused_linux),
		cmocka_unit_test(refused_resources),
		cmocka_unit_test(refused_limits_of_cgroup_v1),
		cmocka_unit_test(files_of_others_pass),
		cmocka_unit_test(the_default_spec_passes),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
