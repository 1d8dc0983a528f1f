/*
 * What answers at I/O ports, beside KVM's own interrupt controllers: a serial port that only sends
 * (16550A), and three ways to end the machine. Everything else reads as ones, as an empty bus does.
 *
 * The serial port sends at once: its transmitter is always empty. A driver that waits for the
 * interrupt of an empty transmitter gets it when it enables it, and again after each byte (IIR's
 * reading takes it away). All devices here are eight bits wide; wider accesses meet nobody.
 */
#include <linux/kvm.h>
#include <string.h>
#include <unistd.h>

#include "vmm/arch/x86_64/machine.h"

#define PORT_KEYBOARD 0x64
#define KEYBOARD_RESET 0xfe
#define KEYBOARD_TAKES 0xfd /* all ones but "input buffer full" */
#define PORT_UART 0x3f8
#define PORT_PANIC 0x505
#define PANICKED 1u
#define PORT_RESET 0xcf9
#define RESET_CPU 4u

enum { THR, IER, IIR, LCR, MCR, LSR, MSR, SCR }; /* as read; THR, IER: the divisor, if DLAB */
#define IER_THRI 2u
#define IIR_NONE 1u
#define IIR_THRI 2u
#define IIR_FIFO 0xc0u
#define FCR_FIFO 1u
#define LCR_DLAB 0x80u
#define MCR_LOOP 0x10u
#define LSR_EMPTY 0x60u /* transmitter and its holding register */
#define MSR_READY 0xb0u /* carrier, data set ready, clear to send */

/* struct arch_ports' registers: as above, but what has no place in those that are only read. */
enum { U_DLL = THR, U_IER = IER, U_FCR = IIR, U_LCR = LCR, U_MCR = MCR, U_DLM = LSR, U_SCR = SCR };
#define U_FCR_PENDING 0x80u /* the transmitter's interrupt waits to be read */

static void uart_interrupt(struct arch_ports *p)
{
	uint64_t one = 1;

	if (!(p->uart[U_IER] & IER_THRI) || (p->uart[U_FCR] & U_FCR_PENDING))
		return;
	p->uart[U_FCR] |= U_FCR_PENDING;
	/* An eventfd's counter cannot be full: KVM reads it. */
	if (p->irq_fd >= 0 && write(p->irq_fd, &one, sizeof(one)) < 0)
		return;
}

static void uart_write(struct arch_ports *p, unsigned reg, uint8_t v)
{
	uint8_t *u = p->uart;

	if (u[U_LCR] & LCR_DLAB && reg <= IER) {
		u[reg == THR ? U_DLL : U_DLM] = v;
		return;
	}
	switch (reg) {
	case THR:
		if (!(u[U_MCR] & MCR_LOOP))
			p->console(p->arg, v);
		uart_interrupt(p);
		return;
	case IER:
		u[U_IER] = v & 0x0f;
		if (v & IER_THRI)
			uart_interrupt(p);
		else
			u[U_FCR] &= (uint8_t)~U_FCR_PENDING;
		return;
	case IIR: /* FCR */
		u[U_FCR] = (u[U_FCR] & U_FCR_PENDING) | (v & FCR_FIFO);
		return;
	case LCR:
	case SCR:
		u[reg] = v;
		return;
	case MCR:
		u[reg] = v & 0x1f;
		return;
	default:
		return;
	}
}

static uint8_t uart_iir(struct arch_ports *p)
{
	uint8_t fifo = p->uart[U_FCR] & FCR_FIFO ? IIR_FIFO : 0;

	if (!(p->uart[U_FCR] & U_FCR_PENDING))
		return fifo | IIR_NONE;
	p->uart[U_FCR] &= (uint8_t)~U_FCR_PENDING;
	return fifo | IIR_THRI;
}

/* In a loop the four outputs are the four inputs (16550A data sheet, "Modem Control Register"). */
static uint8_t uart_msr(uint8_t mcr)
{
	if (!(mcr & MCR_LOOP))
		return MSR_READY;
	return (uint8_t)((mcr & 2 ? 0x10 : 0) | (mcr & 1 ? 0x20 : 0) | (mcr & 4 ? 0x40 : 0) |
			 (mcr & 8 ? 0x80 : 0));
}

static uint8_t uart_read(struct arch_ports *p, unsigned reg)
{
	uint8_t *u = p->uart;

	if (u[U_LCR] & LCR_DLAB && reg <= IER)
		return u[reg == THR ? U_DLL : U_DLM];
	switch (reg) {
	case THR:
		return 0; /* nothing is ever received */
	case IIR:
		return uart_iir(p);
	case LSR:
		return LSR_EMPTY;
	case MSR:
		return uart_msr(u[U_MCR]);
	default:
		return u[reg];
	}
}

static enum arch_end port_write(struct arch_ports *p, uint16_t port, uint8_t v)
{
	if (port >= PORT_UART && port < PORT_UART + 8)
		uart_write(p, port - PORT_UART, v);
	else if (port == PORT_KEYBOARD && v == KEYBOARD_RESET)
		return ARCH_RESET;
	else if (port == PORT_RESET && v & RESET_CPU)
		return ARCH_RESET;
	else if (port == PORT_PANIC && v & PANICKED)
		return ARCH_PANIC;
	return ARCH_GOES_ON;
}

static uint8_t port_read(struct arch_ports *p, uint16_t port)
{
	if (port >= PORT_UART && port < PORT_UART + 8)
		return uart_read(p, port - PORT_UART);
	if (port == PORT_KEYBOARD)
		return KEYBOARD_TAKES; /* no such controller, but Linux's reset waits for this */
	return port == PORT_PANIC ? PANICKED : 0xff; /* what it can report */
}

enum arch_end arch_io(struct arch_ports *p, struct kvm_run *run)
{
	uint8_t *data = (uint8_t *)run + run->io.data_offset;
	bool out = run->io.direction == KVM_EXIT_IO_OUT;
	enum arch_end end = ARCH_GOES_ON;

	if (run->io.size != 1) {
		if (!out)
			memset(data, 0xff, (size_t)run->io.size * run->io.count);
		return ARCH_GOES_ON;
	}
	for (uint32_t i = 0; i < run->io.count && end == ARCH_GOES_ON; i++) {
		if (out)
			end = port_write(p, run->io.port, data[i]);
		else
			data[i] = port_read(p, run->io.port);
	}
	return end;
}
