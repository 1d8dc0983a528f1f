/*
 * spec_field.h - values of a JSON tree that know where they stand. Private to the parser.
 *
 * A `struct field` is a node of the tree and a link to the field above it, all on the stack, so
 * that an error can name the way to it (`linux.seccomp.syscalls[3].args[0].op`) and nothing is
 * formatted when all goes well.
 *
 * The get_*() functions read member `key` of object `obj`. They return 1 if it was there, 0 if it
 * was absent or null (the output is then untouched), -1 with ERR_INVALID if it is of another type
 * or out of range. The need_*() functions return 0, and refuse an absent member.
 */
#ifndef HUSK_OCI_SPEC_FIELD_H
#define HUSK_OCI_SPEC_FIELD_H

#include "oci/spec.h"

enum field_kind { FIELD_ROOT, FIELD_MEMBER, FIELD_ENTRY, FIELD_ELEMENT };

struct field {
	const struct field *up;
	enum field_kind kind;
	const char *key; /* root (may be ""), member of an object, entry of a map */
	size_t index;	 /* element of an array */
	yajl_val v;
};

/* A name of a fixed set and its number. Tables end with a NULL name. */
struct name {
	const char *name;
	uint64_t value;
};

struct field field_root(const char *name, yajl_val v);
int field_fail(const struct field *f, struct error *err, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));
/* The same about member `key` of f. */
int field_fail_member(const struct field *f, const char *key, struct error *err, const char *fmt,
		      ...) __attribute__((format(printf, 4, 5)));

/* Refuses a property that an object anywhere in the tree holds twice. */
int field_refuse_duplicates(const struct field *f, struct error *err);
int field_is_object(const struct field *f, struct error *err);

/* The value of a field itself. Strings stay the tree's. */
const char *field_str(const struct field *f, struct error *err); /* NULL on error */
int field_i64(const struct field *f, int64_t min, int64_t max, int64_t *out, struct error *err);
int field_u64(const struct field *f, uint64_t max, uint64_t *out, struct error *err);
int field_enum(const struct field *f, const struct name *table, const char *what, uint64_t *out,
	       struct error *err);

int get_object(const struct field *obj, const char *key, struct field *out, struct error *err);
/* An empty string counts as absent. */
int get_str(const struct field *obj, const char *key, char **out, struct error *err);
int get_strv(const struct field *obj, const char *key, char ***out, size_t *n, struct error *err);
int get_bool(const struct field *obj, const char *key, bool *out, struct error *err);
int get_i64(const struct field *obj, const char *key, int64_t min, int64_t max, int64_t *out,
	    struct error *err);
int get_u64(const struct field *obj, const char *key, uint64_t max, uint64_t *out,
	    struct error *err);
int get_u32(const struct field *obj, const char *key, uint32_t *out, struct error *err);
int get_u32v(const struct field *obj, const char *key, uint32_t **out, size_t *n,
	     struct error *err);
int get_enum(const struct field *obj, const char *key, const struct name *table, const char *what,
	     uint64_t *out, struct error *err);
/* A list of names, or-ed together. */
int get_flags(const struct field *obj, const char *key, const struct name *table, const char *what,
	      uint64_t *out, struct error *err);

int get_opt_bool(const struct field *obj, const char *key, struct oci_opt_bool *out,
		 struct error *err);
int get_opt_int(const struct field *obj, const char *key, int min, int max, struct oci_opt_int *out,
		struct error *err);
int get_opt_u16(const struct field *obj, const char *key, struct oci_opt_u16 *out,
		struct error *err);
int get_opt_u32(const struct field *obj, const char *key, struct oci_opt_u32 *out,
		struct error *err);
int get_opt_u64(const struct field *obj, const char *key, struct oci_opt_u64 *out,
		struct error *err);
int get_opt_i64(const struct field *obj, const char *key, struct oci_opt_i64 *out,
		struct error *err);

int need_str(const struct field *obj, const char *key, char **out, struct error *err);
int need_u64(const struct field *obj, const char *key, uint64_t max, uint64_t *out,
	     struct error *err);
int need_i64(const struct field *obj, const char *key, int64_t min, int64_t max, int64_t *out,
	     struct error *err);
int need_enum(const struct field *obj, const char *key, const struct name *table, const char *what,
	      uint64_t *out, struct error *err);

/* Reads one element of a list, or one entry of a map (f->key), into a zeroed struct. */
typedef int field_reader(const struct field *f, void *elem, struct error *err);

/* A list of objects (get_list) or a map (get_map) into a malloc'ed array of structs of `size`
 * bytes. *out and *n are set before the first is read, so that the owner can free what a failure
 * leaves behind. */
int get_list(const struct field *obj, const char *key, size_t size, field_reader *read, void *out,
	     size_t *n, struct error *err);
int get_map(const struct field *obj, const char *key, size_t size, field_reader *read, void *out,
	    size_t *n, struct error *err);
int get_strmap(const struct field *obj, const char *key, struct oci_kv **out, size_t *n,
	       struct error *err);

const char *name_of(const struct name *table, uint64_t value);

/* ---- the parser's parts */
int spec_read_process(const struct field *f, struct oci_process *p, struct error *err);
int spec_read_mounts(const struct field *spec, struct oci_spec *s, struct error *err);
int spec_read_hooks(const struct field *spec, struct oci_spec *s, struct error *err);
int spec_read_linux(const struct field *f, struct oci_linux *l, struct error *err);
int spec_read_resources(const struct field *f, struct oci_resources *r, struct error *err);
int spec_read_seccomp(const struct field *f, struct oci_seccomp *s, struct error *err);
int spec_read_vm(const struct field *f, struct oci_vm *vm, struct error *err);
field_reader spec_read_id_mapping;

void oci_strv_free(char **v);

#endif
