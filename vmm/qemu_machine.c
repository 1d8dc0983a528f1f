/*
 * Theory of operation.
 *
 * QEMU's microvm has 24 virtio-mmio transports where it has a second I/O APIC, which it has with
 * acpi=on alone, and 8 otherwise. A guest learns of both by ACPI, of which ours has none. But all
 * that it must know can be said otherwise: the transports on its command line, the I/O APIC in an
 * MP table. QEMU's firmware would write a table of its own over ours; so it gets another firmware,
 * of five bytes, and the guest's memory from us, with boot_params and tables in it as engine kvm
 * has them (vmm/arch). QEMU loads kernel and initramfs beside them.
 *
 * Linux takes no interrupt of number 0, so the first of the 24 transports stays unused. Those that
 * have no device are not told to the guest: each would cost it a probe.
 *
 * No interrupt of the first I/O APIC reaches the guest (vmm/arch/x86_64/mptable.c), so the guest
 * has no driver for the serial port, which would wait for one. A console for all, when one is asked
 * for, is a virtio device of QEMU's own, whose output goes where the serial port's goes.
 */
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <fcntl.h>
#include <unistd.h>

#include "lib/cleanup.h"
#include "lib/file.h"
#include "lib/log.h"
#include "vmm/arch/arch.h"
#include "vmm/qemu_machine.h"

#define SLOTS_GPA 0xfeb00000u /* of the first transport */
#define SLOT_BYTES 512u

/* The engine's part of the kernel's parameters (contrib/kernel/README.md has the figures).
 *   panic=-1 reboot=t: a guest that panics resets at once, by the way QEMU does soonest.
 *   noreplace-smp: leaves kernel text as it is, which would have to be translated again.
 *   dummy.numdummies=0: no network interface but those that the container is given.
 * Not mitigations=off, though it would be right here: they guard against what a processor does
 * speculatively, which an emulated one does not do on the guest's behalf. Our kernel has none of
 * them. With a TSC of known frequency the guest needs neither a PIT nor a watchdog over its clock.
 */
#define ALWAYS "panic=-1 reboot=t noreplace-smp rcupdate.rcu_expedited=1 dummy.numdummies=0"
/* What is as urgent as a panic is written by polling, by the early console, which is never given
 * up. In this order: it writes what is not excluded when it comes. */
#define LAST_WORDS " quiet loglevel=1 8250.nr_uarts=0 earlyprintk=ttyS0,115200,keep"
/* The early console until there is one for everything. */
#define CONSOLE " 8250.nr_uarts=0 earlyprintk=ttyS0,115200 console=hvc0"
#define TSC " tsc=reliable tsc_early_khz=%llu"

unsigned qemu_machine_slots(const struct engine_config *cfg)
{
	return cfg->ndevices + (cfg->fs_fd >= 0) + cfg->console;
}

static char *parameters(const struct engine_config *cfg, uint64_t tsc_khz, struct error *err)
{
	char *line = NULL;
	size_t len = 0;
	FILE *f = open_memstream(&line, &len);
	unsigned n = qemu_machine_slots(cfg);

	if (!f)
		return error_errno(err, "kernel parameters"), NULL;
	fprintf(f, "%s%s", ALWAYS, cfg->console ? CONSOLE : LAST_WORDS);
	if (tsc_khz)
		fprintf(f, TSC, (unsigned long long)tsc_khz);
	for (unsigned i = QEMU_SLOT_FIRST; i < QEMU_SLOT_FIRST + n; i++)
		fprintf(f, " virtio_mmio.device=%u@0x%x:%u", SLOT_BYTES, SLOTS_GPA + i * SLOT_BYTES,
			i);
	if (cfg->cmdline[0])
		fprintf(f, " %s", cfg->cmdline);
	if (fclose(f) == 0)
		return line;
	free(line);
	return error_errno(err, "kernel parameters"), NULL;
}

/* Its size is final: nobody can truncate it under a mapping. */
static int make_file(uint64_t bytes, struct error *err)
{
	cleanup_close int fd = memfd_create("husk-guest", MFD_CLOEXEC | MFD_ALLOW_SEALING);

	if (fd < 0)
		return error_errno(err, "guest memory: memfd");
	if (ftruncate(fd, (off_t)bytes) < 0)
		return error_errno(err, "guest memory: %llu bytes", (unsigned long long)bytes);
	if (fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) < 0)
		return error_errno(err, "guest memory: seal");
	return steal_fd(&fd);
}

static int write_tables(const struct engine_config *cfg, const char *cmdline,
			struct qemu_machine *qm, struct error *err)
{
	struct arch_image img = {.kernel_fd = cfg->kernel_fd,
				 .initramfs_fd = cfg->initramfs_fd,
				 .cmdline = cmdline,
				 .vcpus = cfg->vcpus,
				 .machine = ARCH_MICROVM};
	struct arch_range r[ARCH_RAM_MAX];
	unsigned n = arch_ram(cfg->mem_bytes, r); /* QEMU's hole is where ours is */
	struct guest_mem m = {0};
	struct arch_entry entry = {0};
	uint64_t offset = 0;
	int ret = 0;

	for (unsigned i = 0; i < n && ret == 0; i++) {
		ret = mem_add(&m, r[i].gpa, r[i].bytes, 0, qm->memory, offset, err);
		offset += r[i].bytes;
	}
	if (ret == 0)
		ret = arch_load(&m, &img, &entry, err);
	qm->initramfs = entry.initramfs;
	mem_clear(&m);
	return ret;
}

int qemu_machine_make(const struct engine_config *cfg, uint64_t tsc_khz, struct qemu_machine *m,
		      struct error *err)
{
	cleanup_free char *cmdline = parameters(cfg, tsc_khz, err);

	*m = (struct qemu_machine){-1, -1, 0};
	if (!cmdline)
		return -1;
	log_debug("kernel parameters: %s", cmdline);
	m->memory = make_file(cfg->mem_bytes, err);
	if (m->memory < 0 || write_tables(cfg, cmdline, m, err) < 0)
		return -1;
	m->firmware = arch_firmware(err);
	return m->firmware < 0 ? -1 : 0;
}

void qemu_machine_close(struct qemu_machine *m)
{
	close_fd(&m->memory);
	close_fd(&m->firmware);
}
