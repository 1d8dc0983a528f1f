/* What lies in a record's directory: journal.json (after a first byte 'j'), or the list of links.
 * What is taken of a journal says the same when it is written and read again. */
#include "lib/cleanup.h"
#include "lib/file.h"
#include "shim/journal.h"

#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_journal(const char *text, size_t len)
{
	struct record a = {.dirfd = -1, .scratch = -1}, b = {.dirfd = -1, .scratch = -1};
	cleanup_free char *again = NULL;

	if (journal_parse(text, len, &a, NULL) < 0)
		return;
	if (a.rootfs.path[0] != '/')
		abort();
	again = journal_text(&a, &len, NULL);
	if (!again || journal_parse(again, len, &b, NULL) < 0 ||
	    strcmp(a.rootfs.path, b.rootfs.path) != 0 || strcmp(a.held, b.held) != 0 ||
	    a.rootfs.ino != b.rootfs.ino || a.mknod != b.mknod)
		abort();
	record_close(&a);
	record_close(&b);
}

static void check_links(const char *text, size_t len)
{
	struct record r = {.dirfd = -1, .scratch = -1};

	if (links_parse(text, len, &r, NULL) < 0 && r.n_links)
		abort();
	for (size_t i = 0; i < r.n_links; i++)
		for (size_t k = 0; k < r.links[i].n; k++)
			if (r.links[i].paths[k][0] == '/')
				abort();
	record_close(&r);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	/* A copy: the parsers may not read beyond it. */
	cleanup_free char *text = xcalloc(size, 1);

	if (size)
		memcpy(text, data, size);
	if (size && text[0] == 'j')
		check_journal(text + 1, size - 1);
	else
		check_links(text, size);
	return 0;
}
