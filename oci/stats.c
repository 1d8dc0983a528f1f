#include "oci/stats.h"
#include "lib/cleanup.h"
#include "oci/spec_field.h"

#include <inttypes.h>
#include <stddef.h>
#include <string.h>

/* Numbers of a struct by their names. `always`: also written when it is zero. */
struct number {
	const char *key;
	size_t offset;
	bool always;
};

#define NUMBER(type, member, name, always)               \
	{                                                \
		(name), offsetof(type, member), (always) \
	}

static const struct number usage[] = {
	NUMBER(struct stats, cpu_ns, "total", false),
	NUMBER(struct stats, cpu_kernel_ns, "kernel", true),
	NUMBER(struct stats, cpu_user_ns, "user", true),
	{0},
};

static const struct number throttling[] = {
	NUMBER(struct stats, periods, "periods", false),
	NUMBER(struct stats, throttled_periods, "throttledPeriods", false),
	NUMBER(struct stats, throttled_ns, "throttledTime", false),
	{0},
};

static const struct number memory_entry[] = {
	NUMBER(struct stats_memory, limit, "limit", true),
	NUMBER(struct stats_memory, usage, "usage", false),
	NUMBER(struct stats_memory, max, "max", false),
	NUMBER(struct stats_memory, failcnt, "failcnt", true),
	{0},
};

static const struct number pids[] = {
	NUMBER(struct stats, pids, "current", false),
	NUMBER(struct stats, pids_limit, "limit", false),
	{0},
};

static const struct number hugetlb_entry[] = {
	NUMBER(struct stats_hugetlb, usage, "usage", false),
	NUMBER(struct stats_hugetlb, max, "max", false),
	NUMBER(struct stats_hugetlb, failcnt, "failcnt", true),
	{0},
};

static const struct number interface[] = {
	NUMBER(struct stats_interface, rx_bytes, "RxBytes", true),
	NUMBER(struct stats_interface, rx_packets, "RxPackets", true),
	NUMBER(struct stats_interface, rx_errors, "RxErrors", true),
	NUMBER(struct stats_interface, rx_dropped, "RxDropped", true),
	NUMBER(struct stats_interface, tx_bytes, "TxBytes", true),
	NUMBER(struct stats_interface, tx_packets, "TxPackets", true),
	NUMBER(struct stats_interface, tx_errors, "TxErrors", true),
	NUMBER(struct stats_interface, tx_dropped, "TxDropped", true),
	{0},
};

/* What runc's cpuset statistics hold besides the lists, and cgroup v2 does not have. */
static const struct {
	const char *key;
	int value;
} cpuset_rest[] = {
	{"cpu_exclusive", 0},	{"mem_hardwall", 0},	   {"mem_exclusive", 0},
	{"memory_migrate", 0},	{"memory_spread_page", 0}, {"memory_spread_slab", 0},
	{"memory_pressure", 0}, {"sched_load_balance", 0}, {"sched_relax_domain_level", 0},
};

/* ---- writing */

static uint64_t number_of(const void *of, const struct number *n)
{
	uint64_t v;

	memcpy(&v, (const char *)of + n->offset, sizeof(v));
	return v;
}

static void put_numbers(struct jsonw *w, const void *of, const struct number *table)
{
	for (const struct number *n = table; n->key; n++)
		if (n->always || number_of(of, n))
			jsonw_kuint(w, n->key, number_of(of, n));
}

static void put_object(struct jsonw *w, const char *key, const void *of, const struct number *table)
{
	jsonw_key(w, key);
	jsonw_obj(w);
	put_numbers(w, of, table);
	jsonw_end_obj(w);
}

static void put_average(struct jsonw *w, const char *key, uint32_t hundredths)
{
	char text[16];
	int n = snprintf(text, sizeof(text), "%u.%02u", hundredths / 100, hundredths % 100);

	jsonw_key(w, key);
	jsonw_raw(w, text, (size_t)n);
}

static void put_pressure(struct jsonw *w, const char *key, const struct stats_pressure *p)
{
	jsonw_key(w, key);
	jsonw_obj(w);
	put_average(w, "avg10", p->avg10);
	put_average(w, "avg60", p->avg60);
	put_average(w, "avg300", p->avg300);
	jsonw_kuint(w, "total", p->total_us);
	jsonw_end_obj(w);
}

static void put_psi(struct jsonw *w, const struct stats_psi *p)
{
	if (!p->has)
		return;
	jsonw_key(w, "psi");
	jsonw_obj(w);
	put_pressure(w, "some", &p->some);
	put_pressure(w, "full", &p->full);
	jsonw_end_obj(w);
}

static void put_list(struct jsonw *w, const char *key, const uint16_t *v, size_t n)
{
	if (n == 0)
		return;
	jsonw_key(w, key);
	jsonw_arr(w);
	for (size_t i = 0; i < n; i++)
		jsonw_uint(w, v[i]);
	jsonw_end_arr(w);
}

static void put_cpu(struct jsonw *w, const struct stats *s)
{
	jsonw_key(w, "cpu");
	jsonw_obj(w);
	put_object(w, "usage", s, usage);
	put_object(w, "throttling", s, throttling);
	put_psi(w, &s->cpu_psi);
	jsonw_end_obj(w);
	jsonw_key(w, "cpuset");
	jsonw_obj(w);
	put_list(w, "cpus", s->cpus, s->n_cpus);
	put_list(w, "mems", s->mems, s->n_mems);
	for (size_t i = 0; i < ARRAY_LEN(cpuset_rest); i++)
		jsonw_kint(w, cpuset_rest[i].key, cpuset_rest[i].value);
	jsonw_end_obj(w);
}

static void put_memory(struct jsonw *w, const struct stats *s)
{
	jsonw_key(w, "memory");
	jsonw_obj(w);
	if (s->cache)
		jsonw_kuint(w, "cache", s->cache);
	put_object(w, "usage", &s->memory, memory_entry);
	put_object(w, "swap", &s->swap, memory_entry);
	put_object(w, "kernel", &s->kernel, memory_entry);
	put_object(w, "kernelTCP", &(struct stats_memory){0}, memory_entry);
	if (s->n_raw) {
		jsonw_key(w, "raw");
		jsonw_obj(w);
		for (size_t i = 0; i < s->n_raw; i++)
			jsonw_kuint(w, s->raw[i].name, s->raw[i].value);
		jsonw_end_obj(w);
	}
	put_psi(w, &s->memory_psi);
	jsonw_end_obj(w);
}

static void put_disk(struct jsonw *w, const struct stats_disk *d, const char *op, uint64_t value)
{
	jsonw_obj(w);
	if (d->major)
		jsonw_kuint(w, "major", d->major);
	if (d->minor)
		jsonw_kuint(w, "minor", d->minor);
	jsonw_kstr(w, "op", op);
	if (value)
		jsonw_kuint(w, "value", value);
	jsonw_end_obj(w);
}

static void put_blkio(struct jsonw *w, const struct stats *s)
{
	jsonw_key(w, "blkio");
	jsonw_obj(w);
	for (int ops = 0; s->n_disks > 0 && ops < 2; ops++) {
		jsonw_key(w, ops ? "ioServicedRecursive" : "ioServiceBytesRecursive");
		jsonw_arr(w);
		for (size_t i = 0; i < s->n_disks; i++) {
			const struct stats_disk *d = &s->disks[i];

			put_disk(w, d, "Read", ops ? d->reads : d->read_bytes);
			put_disk(w, d, "Write", ops ? d->writes : d->write_bytes);
		}
		jsonw_end_arr(w);
	}
	put_psi(w, &s->io_psi);
	jsonw_end_obj(w);
}

static void put_interfaces(struct jsonw *w, const struct stats *s)
{
	jsonw_key(w, "network_interfaces");
	if (s->n_interfaces == 0) {
		jsonw_null(w);
		return;
	}
	jsonw_arr(w);
	for (size_t i = 0; i < s->n_interfaces; i++) {
		jsonw_obj(w);
		jsonw_kstr(w, "Name", s->interfaces[i].name);
		put_numbers(w, &s->interfaces[i], interface);
		jsonw_end_obj(w);
	}
	jsonw_end_arr(w);
}

void stats_write(const struct stats *s, struct jsonw *w)
{
	jsonw_obj(w);
	put_cpu(w, s);
	put_memory(w, s);
	put_object(w, "pids", s, pids);
	put_blkio(w, s);
	jsonw_key(w, "hugetlb");
	jsonw_obj(w);
	for (size_t i = 0; i < s->n_hugetlb; i++)
		put_object(w, s->hugetlb[i].size, &s->hugetlb[i], hugetlb_entry);
	jsonw_end_obj(w);
	jsonw_key(w, "intel_rdt");
	jsonw_obj(w);
	jsonw_end_obj(w);
	put_interfaces(w, s);
	jsonw_end_obj(w);
}

/* ---- reading */

static int read_numbers(const struct field *f, void *of, const struct number *table,
			struct error *err)
{
	for (const struct number *n = table; n->key; n++) {
		uint64_t v = 0;

		if (get_u64(f, n->key, UINT64_MAX, &v, err) < 0)
			return -1;
		memcpy((char *)of + n->offset, &v, sizeof(v));
	}
	return 0;
}

static int read_object(const struct field *up, const char *key, void *of,
		       const struct number *table, struct error *err)
{
	struct field f;
	int found = get_object(up, key, &f, err);

	return found <= 0 ? found : read_numbers(&f, of, table, err);
}

/* A share of time in percent, "12.34": 0 to 100. */
static int read_average(const struct field *f, const char *key, uint32_t *out, struct error *err)
{
	yajl_val v = json_get(f->v, key);
	double d;

	if (!v)
		return 0;
	if (!YAJL_IS_NUMBER(v) || !(YAJL_IS_DOUBLE(v) || YAJL_IS_INTEGER(v)))
		return field_fail_member(f, key, err, "must be a number");
	d = YAJL_IS_DOUBLE(v) ? YAJL_GET_DOUBLE(v) : (double)YAJL_GET_INTEGER(v);
	if (!(d >= 0 && d <= 100))
		return field_fail_member(f, key, err, "is out of range (0 to 100)");
	*out = (uint32_t)(d * 100 + 0.5);
	return 0;
}

static int read_pressure(const struct field *up, const char *key, struct stats_pressure *p,
			 struct error *err)
{
	struct field f;
	int found = get_object(up, key, &f, err);

	if (found <= 0)
		return found;
	if (read_average(&f, "avg10", &p->avg10, err) < 0 ||
	    read_average(&f, "avg60", &p->avg60, err) < 0 ||
	    read_average(&f, "avg300", &p->avg300, err) < 0)
		return -1;
	return get_u64(&f, "total", UINT64_MAX, &p->total_us, err) < 0 ? -1 : 0;
}

static int read_psi(const struct field *up, struct stats_psi *p, struct error *err)
{
	struct field f;
	int found = get_object(up, "psi", &f, err);

	if (found <= 0)
		return found;
	p->has = true;
	if (read_pressure(&f, "some", &p->some, err) < 0)
		return -1;
	return read_pressure(&f, "full", &p->full, err);
}

/* The array `key` of `up`; an absent one and null are empty. At most `max` elements. */
static int get_array(const struct field *up, const char *key, size_t max, struct field *out,
		     struct error *err)
{
	yajl_val v = json_get(up->v, key);

	if (!v || YAJL_IS_NULL(v))
		return 0;
	if (!YAJL_IS_ARRAY(v) || v->u.array.len > max) {
		field_fail_member(up, key, err, "must be a list of at most %zu", max);
		return -1;
	}
	*out = (struct field){.up = up, .kind = FIELD_MEMBER, .key = key, .v = v};
	return (int)v->u.array.len;
}

static struct field element(const struct field *list, size_t i)
{
	return (struct field){
		.up = list, .kind = FIELD_ELEMENT, .index = i, .v = list->v->u.array.values[i]};
}

static int read_list(const struct field *up, const char *key, uint16_t *out, size_t *n,
		     struct error *err)
{
	struct field list;
	int len = get_array(up, key, STATS_CPUS_MAX, &list, err);

	for (int i = 0; i < len; i++) {
		struct field f = element(&list, (size_t)i);
		uint64_t v;

		if (field_u64(&f, UINT16_MAX, &v, err) < 0)
			return -1;
		out[(*n)++] = (uint16_t)v;
	}
	return len < 0 ? -1 : 0;
}

static int read_cpu(const struct field *root, struct stats *s, struct error *err)
{
	struct field f;
	int found = get_object(root, "cpu", &f, err);

	if (found < 0)
		return -1;
	if (found > 0 && (read_object(&f, "usage", s, usage, err) < 0 ||
			  read_object(&f, "throttling", s, throttling, err) < 0 ||
			  read_psi(&f, &s->cpu_psi, err) < 0))
		return -1;
	found = get_object(root, "cpuset", &f, err);
	if (found <= 0)
		return found;
	if (read_list(&f, "cpus", s->cpus, &s->n_cpus, err) < 0)
		return -1;
	return read_list(&f, "mems", s->mems, &s->n_mems, err);
}

/* A name that becomes a key of our own output. */
static bool is_name(const char *name, size_t max)
{
	size_t n = strlen(name);

	return n > 0 && n <= max &&
	       strspn(name, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_.-") ==
		       n;
}

static int get_map_object(const struct field *up, const char *key, size_t max, size_t name_max,
			  struct field *f, struct error *err)
{
	int found = get_object(up, key, f, err);

	if (found <= 0)
		return found;
	if (f->v->u.object.len > max)
		return field_fail_member(up, key, err, "has more than %zu members", max);
	for (size_t i = 0; i < f->v->u.object.len; i++)
		if (!is_name(f->v->u.object.keys[i], name_max))
			return field_fail_member(up, key, err, "has a member without a name");
	return (int)f->v->u.object.len;
}

static int read_raw(const struct field *memory, struct stats *s, struct error *err)
{
	struct field f;
	int n = get_map_object(memory, "raw", STATS_KEYS_MAX, STATS_KEY_MAX, &f, err);

	for (int i = 0; i < n; i++) {
		const char *name = f.v->u.object.keys[i];
		struct stats_key *k = &s->raw[s->n_raw];

		if (get_u64(&f, name, UINT64_MAX, &k->value, err) < 0)
			return -1;
		snprintf(k->name, sizeof(k->name), "%s", name);
		s->n_raw++;
	}
	return n < 0 ? -1 : 0;
}

static int read_memory(const struct field *root, struct stats *s, struct error *err)
{
	struct field f;
	int found = get_object(root, "memory", &f, err);

	if (found <= 0)
		return found;
	if (get_u64(&f, "cache", UINT64_MAX, &s->cache, err) < 0 ||
	    read_object(&f, "usage", &s->memory, memory_entry, err) < 0 ||
	    read_object(&f, "swap", &s->swap, memory_entry, err) < 0 ||
	    read_object(&f, "kernel", &s->kernel, memory_entry, err) < 0 ||
	    read_raw(&f, s, err) < 0)
		return -1;
	return read_psi(&f, &s->memory_psi, err);
}

static struct stats_disk *find_disk(struct stats *s, uint64_t major, uint64_t minor)
{
	for (size_t i = 0; i < s->n_disks; i++)
		if (s->disks[i].major == major && s->disks[i].minor == minor)
			return &s->disks[i];
	if (s->n_disks == STATS_LIST_MAX)
		return NULL;
	s->disks[s->n_disks] = (struct stats_disk){.major = major, .minor = minor};
	return &s->disks[s->n_disks++];
}

/* The entries of a disk are one after the other: "Read", "Write". */
static int read_disks(const struct field *blkio, const char *key, bool ops, struct stats *s,
		      struct error *err)
{
	struct field list;
	int n = get_array(blkio, key, 2 * (size_t)STATS_LIST_MAX, &list, err);

	for (int i = 0; i < n; i++) {
		struct field f = element(&list, (size_t)i);
		uint64_t major = 0, minor = 0, value = 0;
		struct stats_disk *d;
		bool write;

		if (field_is_object(&f, err) < 0 ||
		    get_u64(&f, "major", UINT32_MAX, &major, err) < 0 ||
		    get_u64(&f, "minor", UINT32_MAX, &minor, err) < 0 ||
		    get_u64(&f, "value", UINT64_MAX, &value, err) < 0)
			return -1;
		write = strcmp(json_str(f.v, "op") ?: "", "Write") == 0;
		d = find_disk(s, major, minor);
		if (!d)
			return field_fail(&f, err, "too many disks");
		if (ops)
			*(write ? &d->writes : &d->reads) = value;
		else
			*(write ? &d->write_bytes : &d->read_bytes) = value;
	}
	return n < 0 ? -1 : 0;
}

static int read_blkio(const struct field *root, struct stats *s, struct error *err)
{
	struct field f;
	int found = get_object(root, "blkio", &f, err);

	if (found <= 0)
		return found;
	if (read_disks(&f, "ioServiceBytesRecursive", false, s, err) < 0 ||
	    read_disks(&f, "ioServicedRecursive", true, s, err) < 0)
		return -1;
	return read_psi(&f, &s->io_psi, err);
}

static int read_hugetlb(const struct field *root, struct stats *s, struct error *err)
{
	struct field f;
	int n = get_map_object(root, "hugetlb", STATS_LIST_MAX, STATS_PAGE_SIZE_MAX, &f, err);

	for (int i = 0; i < n; i++) {
		struct stats_hugetlb *h = &s->hugetlb[s->n_hugetlb++];

		snprintf(h->size, sizeof(h->size), "%s", f.v->u.object.keys[i]);
		if (read_object(&f, f.v->u.object.keys[i], h, hugetlb_entry, err) < 0)
			return -1;
	}
	return n < 0 ? -1 : 0;
}

/* Any bytes but '/' and blanks, the kernel says; of a guest only what a terminal bears. */
static bool is_interface(const char *name)
{
	size_t n = name ? strlen(name) : 0;

	if (n == 0 || n > STATS_INTERFACE_MAX)
		return false;
	for (const char *p = name; *p; p++)
		if (*p <= ' ' || *p > '~' || *p == '/')
			return false;
	return true;
}

static int read_interfaces(const struct field *root, struct stats *s, struct error *err)
{
	struct field list;
	int n = get_array(root, "network_interfaces", STATS_LIST_MAX, &list, err);

	for (int i = 0; i < n; i++) {
		struct field f = element(&list, (size_t)i);
		struct stats_interface *d = &s->interfaces[s->n_interfaces++];

		if (field_is_object(&f, err) < 0)
			return -1;
		if (!is_interface(json_str(f.v, "Name")))
			return field_fail_member(&f, "Name", err, "is not a name");
		snprintf(d->name, sizeof(d->name), "%s", json_str(f.v, "Name"));
		if (read_numbers(&f, d, interface, err) < 0)
			return -1;
	}
	return n < 0 ? -1 : 0;
}

int stats_read(yajl_val v, struct stats *s, struct error *err)
{
	struct field root = field_root("stats", v);

	memset(s, 0, sizeof(*s));
	if (field_is_object(&root, err) < 0 || field_refuse_duplicates(&root, err) < 0 ||
	    read_cpu(&root, s, err) < 0 || read_memory(&root, s, err) < 0 ||
	    read_object(&root, "pids", s, pids, err) < 0 || read_blkio(&root, s, err) < 0 ||
	    read_hugetlb(&root, s, err) < 0)
		return -1;
	return read_interfaces(&root, s, err);
}
