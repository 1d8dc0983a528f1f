/*
 * config_file.h - husk's own settings on a host: /etc/husk/config.json (husk.8, CONFIGURATION FILE;
 * contrib/husk/config.json has every key).
 *
 * All keys may be left out, as may the file. A key or value that is not known is an error: a wrong
 * word in it must not turn into a default silently.
 */
#ifndef HUSK_SHIM_CONFIG_FILE_H
#define HUSK_SHIM_CONFIG_FILE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "lib/error.h"
#include "netns/tap.h"

#define CONFIG_FILE "/etc/husk/config.json"
#define CONFIG_FILE_MAX (64u << 10)
#define CONFIG_LIST_MAX 256 /* members of a list */

#define MACHINE_MEM_MIN (UINT64_C(64) << 20)
#define MACHINE_MEM_MAX (UINT64_C(1) << 40)
#define MACHINE_VCPUS_MAX 64

/* Names, or patterns of them with *, ? and []; NULL-terminated. */
struct config_list {
	bool given;
	size_t n;
	char **v;
};

struct config_file {
	char *path;   /* of the file; NULL: there is none */
	char *engine; /* one of choice_is_word()'s */
	char *kernel; /* absolute paths */
	char *qemu;
	struct {
		uint64_t def, max, pod; /* bytes; 0: not said */
	} memory, scratch;		/* a scratch disk has no `pod` */
	struct {
		unsigned def, max, pod; /* 0: not said */
	} vcpus;
	char *console;			/* directory of the guests' consoles */
	struct config_list annotations; /* io.husk.* that config.json may have */
	struct config_list kernels;	/* what the section vm of config.json may name */
	struct config_list initrds;
	struct config_list hypervisors;
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

/* Whether one of the list's patterns has `name`; a * of a path's pattern is no '/'. */
bool config_list_has(const struct config_list *l, const char *name);
/* What to call the file in messages. */
const char *config_file_name(void);

#endif
