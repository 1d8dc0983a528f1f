/*
 * Entry of the hostile guest: by Linux's 64-bit boot protocol (paging on, %rsi: boot_params, no
 * stack). It makes tables of its own, which map the first 4 GiB for user mode too, and goes on at
 * CPL 3 with all I/O ports (by the task state's bitmap: not every KVM keeps the I/O privilege
 * level): a KVM without hardware below it runs that natively.
 */
	.section .text.start, "ax"
	.globl start
start:
	cli
	lea	stack_top(%rip), %rsp
	mov	%rsi, %rbx
	call	make_tables		/* returns the address of the top one */
	mov	%rax, %cr3
	lgdt	gdt_register(%rip)
	lea	task_state(%rip), %rax	/* into its descriptor: base, in pieces */
	mov	%ax, gdt + 0x22(%rip)
	shr	$16, %rax
	mov	%al, gdt + 0x24(%rip)
	mov	%ah, gdt + 0x27(%rip)
	movw	$104, task_state + 102(%rip)	/* where the bitmap of ports is */
	movb	$0xff, task_state + 104 + 8192(%rip)
	mov	$0x20, %eax
	ltr	%ax
	mov	%rbx, %rdi		/* guest_main's argument */
	lea	stack_top(%rip), %rax
	pushq	$0x1b			/* user data */
	pushq	%rax
	pushq	$0x0002			/* no interrupts */
	pushq	$0x13			/* user code */
	lea	1f(%rip), %rax
	pushq	%rax
	iretq
1:	call	guest_main
2:	jmp	2b

	.data
	.balign	16
gdt:
	.quad	0
	.quad	0x00af9b000000ffff	/* 0x08: code, CPL 0 */
	.quad	0x00affb000000ffff	/* 0x10: 64-bit code, CPL 3 */
	.quad	0x00cff3000000ffff	/* 0x18: data, CPL 3 */
	.word	104 + 8192		/* 0x20: the task state */
	.word	0
	.byte	0, 0x89, 0, 0
	.quad	0
gdt_register:
	.word	gdt_register - gdt - 1
	.quad	gdt

	.bss
	.balign	16
task_state:
	.skip	104 + 8192 + 8
	.balign	4096
	.skip	16384
stack_top:

	.section .note.GNU-stack, "", @progbits
