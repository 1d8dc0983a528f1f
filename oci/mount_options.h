/*
 * mount_options.h - the options of a mount in config.json, sorted by how they are applied
 * (config.md, "Linux mount options").
 *
 * One list of words stands for five different things: flags of mount(2), attributes that
 * mount_setattr(2) applies to a whole tree (the "r" forms: rro, rnosuid, ...), propagation, which
 * mount(2) takes alone, id-mapping, and what the filesystem itself understands ("mode=755"). Later
 * words override earlier ones.
 */
#ifndef HUSK_OCI_MOUNT_OPTIONS_H
#define HUSK_OCI_MOUNT_OPTIONS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum mount_idmap { MOUNT_IDMAP_NONE, MOUNT_IDMAP, MOUNT_IDMAP_RECURSIVE };

struct mount_options {
	unsigned long flags;	    /* MS_*: to set, bind and rbind as MS_BIND and MS_REC */
	unsigned long clear_flags;  /* MS_*: asked to be off ("rw", "suid"); matters on a remount */
	uint64_t rec_set;	    /* MOUNT_ATTR_* for mount_setattr() with AT_RECURSIVE */
	uint64_t rec_clear;	    /* has MOUNT_ATTR__ATIME whenever rec_set has an atime mode */
	unsigned long *propagation; /* MS_SHARED ... each for a mount(2) of its own, in order */
	size_t n_propagation;
	char *data;	/* "mode=755,size=65536k" for the filesystem; NULL if there is none */
	bool tmpcopyup; /* fill the tmpfs with what it covers */
	enum mount_idmap idmap;
};

#define MOUNT_OPTIONS_INIT \
	{                  \
		0          \
	}

/* Sorts n options into *out, which the caller frees with mount_options_free(). Cannot fail: a word
 * that is no mount option goes to the filesystem, which alone knows. */
void mount_options_parse(char *const *options, size_t n, struct mount_options *out);
void mount_options_free(struct mount_options *o);
#define cleanup_mount_options __attribute__((cleanup(mount_options_free)))

/* The i-th word that mount_options_parse() knows, in alphabetical order; NULL behind the last. */
const char *mount_option_name(size_t i);

#endif
