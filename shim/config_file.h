/*
 * config_file.h - husk's own settings on a host: /etc/husk/config.json.
 *
 *	{"engine": "auto", "kernel": "/boot/vmlinux", "qemu": "/usr/bin/qemu-system-x86_64",
 *	 "network": {"wiring": "auto", "vhost_net": false}}
 *
 * All keys may be left out, as may the file. A key or value that is not known is an error: a wrong
 * word in it must not turn into a default silently.
 */
#ifndef HUSK_SHIM_CONFIG_FILE_H
#define HUSK_SHIM_CONFIG_FILE_H

#include <stdbool.h>
#include <stddef.h>

#include "lib/error.h"
#include "netns/tap.h"

#define CONFIG_FILE "/etc/husk/config.json"
#define CONFIG_FILE_MAX (64u << 10)

struct config_file {
	char *engine; /* one of choice_is_word()'s */
	char *kernel; /* absolute paths */
	char *qemu;
	bool has_network;
	enum net_wiring wiring; /* how TAPs are connected */
	bool vhost_net;		/* the host's kernel moves packets (engine kvm) */
};

/* Pure. ERR_INVALID names line and column, or the key and its value. */
int config_file_parse(const char *text, size_t len, struct config_file *c, struct error *err);
/* Reads CONFIG_FILE, or the file that the environment's HUSK_CONFIG names. What it says is obeyed
 * by root: one that others than root may write is refused. */
int config_file_load(struct config_file *c, struct error *err);
void config_file_free(struct config_file *c);
#define cleanup_config_file __attribute__((cleanup(config_file_free)))

#endif
