/* What a vCPU's registers say to people. */
#include "vmm/arch/arch.h"

#include <linux/kvm.h>
#include <stdio.h>
#include <sys/ioctl.h>

/* syscalls loop: ioctl(1==KVM_GET_REGS) ioctl(1==KVM_GET_SREGS) */

void arch_describe(int vcpu, char *buf, size_t size)
{
	struct kvm_regs r;
	struct kvm_sregs s;

	if (ioctl(vcpu, KVM_GET_REGS, &r) < 0 || ioctl(vcpu, KVM_GET_SREGS, &s) < 0) {
		snprintf(buf, size, "its registers cannot be read");
		return;
	}
	snprintf(buf, size,
		 "rip 0x%llx rsp 0x%llx rflags 0x%llx cs 0x%x cr0 0x%llx cr2 0x%llx cr3 0x%llx "
		 "cr4 0x%llx efer 0x%llx",
		 r.rip, r.rsp, r.rflags, s.cs.selector, s.cr0, s.cr2, s.cr3, s.cr4, s.efer);
}
